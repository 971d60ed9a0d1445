"""What /metrics tells Prometheus: figures from the database and Redis, the same whichever web process is asked."""
