from django.urls import path

from tickets.views_saved import ForgetView, KeepView

urlpatterns = [
    path("keep/", KeepView.as_view(), name="keep_view"),
    path("<int:key>/forget/", ForgetView.as_view(), name="forget_view"),
]
