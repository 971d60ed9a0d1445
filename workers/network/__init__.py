"""How the parties of a run reach each other: the rendezvous before it, SecretFlow's links, and TLS on them."""
