"""A report's page, as a browser would take it apart."""

from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """Addresses, visible text and source of a page."""

    def __init__(self, path):
        super().__init__()
        self.addresses, self.tags, self.text = [], [], ""
        self.path = Path(path)
        self.html = self.path.read_text()
        self.feed(self.html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [
            value
            for name, value in attrs
            if name in ("src", "srcset", "href", "data", "action", "poster")
        ]

    def handle_data(self, data):
        self.text += data + "\n"
