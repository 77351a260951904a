"""Files of tickets on their way out, so that no browser takes one for a page."""

from django.http import FileResponse, Http404, HttpResponseNotModified
from django.http.response import HttpResponseBase

from tickets.attachments import storage
from tickets.content_types import UNKNOWN
from tickets.models import Attachment

# A browser that shows it in spite of everything runs nothing and loads nothing.
POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"


def as_download(attachment: Attachment, asked: str | None) -> HttpResponseBase:
    """The bytes, to be saved. `asked` is the tag that the reader has already: 304 then.

    Only pictures keep their type, so that pages can show them; a page made of the address itself saves them, too.
    """
    tag = f'"{attachment.sha256}"'
    response: HttpResponseBase
    if asked == tag:
        response = HttpResponseNotModified()
    else:
        is_picture = attachment.content_type in Attachment.PICTURES
        try:
            file = storage().open(attachment.file, "rb")
        except FileNotFoundError as error:
            raise Http404 from error
        kind = attachment.content_type if is_picture else UNKNOWN
        response = FileResponse(file, as_attachment=True, filename=attachment.name, content_type=kind)
    headers = {
        "ETag": tag,
        # Kept by the reader, but asked about each time: he may have lost the right.
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    for name, value in headers.items():
        response[name] = value
    return response
