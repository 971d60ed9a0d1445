"""A site for trying things out, on this machine alone. Nothing else imports this package."""
