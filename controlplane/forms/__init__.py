"""The admin's forms, made from the documents' models."""
