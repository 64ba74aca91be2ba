"""What gunicorn imports before it makes its workers: nothing here."""
