"""Devices: a layer of the documents and a class each (1-contract.md section 1); the registry names them."""
