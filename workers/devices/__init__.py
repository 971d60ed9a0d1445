"""Devices: a layer of the documents and a class each. ``workers.contract.registry`` names them."""
