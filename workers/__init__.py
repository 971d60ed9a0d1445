"""What a party host runs: documents, validation, the pipeline, the RQ worker. Imports no Django."""
