"""What executors and components compute with: their context, the cells of tables, and what parties tell each other."""
