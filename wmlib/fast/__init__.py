"""The same numbers, sooner: without this folder everything runs, only slower.

The core comes in by ``wmlib.devices.faster`` alone: for models that compute sooner (``models``,
with ``convolution`` and ``cell``), environments in ``processes`` of their own or EnvPool's
(``envpool``), a CarRacing drawn sooner (``car_racing``), ``memory`` that is kept, and a Ray cluster
(``ray``).
"""
