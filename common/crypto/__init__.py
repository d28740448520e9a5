"""End-to-end encryption: Olm, Megolm, devices and cross-signing, on vodozemac alone."""
