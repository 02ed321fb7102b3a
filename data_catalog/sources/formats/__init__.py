"""One module per format, all of the same shape (see ``Format`` in ``recognise.py``)."""
