"""What control plane and party hosts share: documents and their validation, errors, secrets, and what goes over Redis.

Imports nothing else of this project, so that both sides can rest on it.
"""
