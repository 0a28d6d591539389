//! `/api/status`. It answers 200 whether or not secrets can be read, as the server's does.

use serde_json::json;

use super::call::Call;
use crate::calendar::iso8601;
use crate::http::response::Response;

pub fn status(call: &Call<'_>) -> Response {
    let body = json!({
        "date": iso8601(call.fake.clock.now()),
        "message": "Ok",
        "emailConfigured": false,
        "inviteOnlySignup": true,
        "redisConfigured": true,
        "secretScanningConfigured": false,
        "samlDefaultOrgSlug": "fake",
        "auditLogStorageDisabled": false,
    });
    Response::json(200, &body)
}
