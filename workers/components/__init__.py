"""SecretFlow's own components: what there is of them (read from a file), and running one on devices of ours."""
