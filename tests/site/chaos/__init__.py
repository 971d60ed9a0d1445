"""What the chaos test is made of: a site of real processes, what breaks it, who watches it, and what has to be true."""
