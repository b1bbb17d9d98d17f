"""Where trials run. ``base`` is the protocol, ``local`` runs it in processes of this machine."""
