"""Images, what is known of each (sealed until asked for), and how they are divided, downloaded or drawn."""
