"""The drift-tube chamber: its geometry, raw hits, reconstruction and simulation."""
