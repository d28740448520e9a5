"""The few client-server calls we make."""
