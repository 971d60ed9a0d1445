import os
import sys

from django.core.asgi import get_asgi_application

# A request asks the database dozens of times, and waits each time until the thread that serves the streams lets it go
# on: by default up to 5 ms
sys.setswitchinterval(0.0005)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
application = get_asgi_application()
