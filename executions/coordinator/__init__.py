"""Carries submissions to their ends; ``manage.py coordinate`` runs the loop."""
