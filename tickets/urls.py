from django.urls import path

from tickets.views_people import PeopleOptions
from tickets.views_saved import ForgetView, KeepView

urlpatterns = [
    path("people/", PeopleOptions.as_view(), name="people_options"),
    path("keep/", KeepView.as_view(), name="keep_view"),
    path("<int:key>/forget/", ForgetView.as_view(), name="forget_view"),
]
