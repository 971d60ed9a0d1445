"""How users come in: links to set a password, and mail to them."""
