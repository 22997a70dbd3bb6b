"""An installation of real processes under load, while each of them is killed, frozen and restarted: what it promises.

It stands outside: it knows the wire contract, and how processes are started, and nothing of the controller.
"""
