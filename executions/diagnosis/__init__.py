"""What is known of failures and waits, and a file with everything about one execution for whoever looks into it."""
