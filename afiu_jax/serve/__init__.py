"""``afiu serve``: a local web page that shows the map of a photo.

``results`` makes what is shown, ``page`` lays it out, ``server`` answers on a port.
"""
