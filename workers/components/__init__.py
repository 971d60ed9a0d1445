"""SecretFlow's own components: their list, read from a file, and running one on our devices."""
