"""What goes on with what was submitted; ``manage.py coordinate`` runs its loop."""
