"""What several publishers' readers share: finding files, reading annotations and videos, downloading."""
