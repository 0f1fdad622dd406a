"""The program that runs beside the detector for months: it receives, evaluates, grades, records and shows."""
