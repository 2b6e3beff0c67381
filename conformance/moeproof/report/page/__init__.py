"""What the page for people shows, computed from a report; ``templates/`` says how it looks."""
