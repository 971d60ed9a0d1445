"""What a party host runs: documents, validation, task types, the RQ worker. Imports no Django."""
