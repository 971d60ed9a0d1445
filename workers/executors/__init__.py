"""Task types: an executor class each. ``workers.contract.registry`` names them."""
