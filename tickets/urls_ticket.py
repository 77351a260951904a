"""Parts of the pages of all tickets, whatever their process."""

from django.urls import path

from tickets.views_attachments import RemoveFile, TicketFile
from tickets.views_ticket import LiveTicket, OlderEntries, People, TextPreview, Watchers

urlpatterns = [
    path("preview/", TextPreview.as_view(), name="text_preview"),
    path("<str:number>/timeline/", OlderEntries.as_view(), name="ticket_timeline"),
    path("<str:number>/live/", LiveTicket.as_view(), name="ticket_live"),
    path("<str:number>/people/", People.as_view(), name="ticket_people"),
    path("<str:number>/watchers/", Watchers.as_view(), name="ticket_watchers"),
    path("<str:number>/files/<int:key>/", TicketFile.as_view(), name="ticket_file"),
    path("<str:number>/files/<int:key>/remove/", RemoveFile.as_view(), name="ticket_file_remove"),
]
