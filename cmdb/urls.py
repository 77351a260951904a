from django.urls import path

from cmdb.views import CIAcceptDrift, CICreate, CIDetail, CIList, CIOptions, CIRequestAttributes, CIToken
from cmdb.views_admission import (
    GatewayIssue,
    GatewayList,
    GatewayRevoke,
    RegistrationDetail,
    RegistrationList,
    RegistrationReject,
    RegistrationReopen,
)
from cmdb.views_baseline import CIBaseline, CIBaselineRecord
from cmdb.views_csv import CIExport, CIImport
from cmdb.views_group import CIGroupCreate, CIGroupDetail, CIGroupEdit, CIGroupList
from cmdb.views_impact import CIImpact

urlpatterns = [
    path("", CIList.as_view(), name="ci_list"),
    path("new/", CICreate.as_view(), name="ci_create"),
    path("options/", CIOptions.as_view(), name="ci_options"),
    path("import/", CIImport.as_view(), name="ci_import"),
    path("export/", CIExport.as_view(), name="ci_export"),
    path("groups/", CIGroupList.as_view(), name="group_list"),
    path("groups/new/", CIGroupCreate.as_view(), name="group_create"),
    path("groups/<str:number>/", CIGroupDetail.as_view(), name="group_detail"),
    path("groups/<str:number>/edit/", CIGroupEdit.as_view(), name="group_edit"),
    path("waiting/", RegistrationList.as_view(), name="registration_list"),
    path("waiting/<str:number>/", RegistrationDetail.as_view(), name="registration_detail"),
    path("waiting/<str:number>/reject/", RegistrationReject.as_view(), name="registration_reject"),
    path("waiting/<str:number>/reopen/", RegistrationReopen.as_view(), name="registration_reopen"),
    path("gateways/", GatewayList.as_view(), name="gateway_list"),
    path("gateways/new/", GatewayIssue.as_view(), name="gateway_issue"),
    path("gateways/<str:number>/end/", GatewayRevoke.as_view(), name="gateway_revoke"),
    path("<str:number>/", CIDetail.as_view(), name="ci_detail"),
    path("<str:number>/impact/", CIImpact.as_view(), name="ci_impact"),
    path("<str:number>/baselines/new/", CIBaselineRecord.as_view(), name="ci_baseline_record"),
    path("<str:number>/baselines/<int:key>/", CIBaseline.as_view(), name="ci_baseline"),
    path("<str:number>/accept-drift/", CIAcceptDrift.as_view(), name="ci_accept_drift"),
    path("<str:number>/request-attributes/", CIRequestAttributes.as_view(), name="ci_request_attributes"),
    path("<str:number>/token/", CIToken.as_view(), name="ci_token"),
]
