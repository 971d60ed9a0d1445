"""Task types: an executor class each (1-contract.md section 6); the registry names them."""
