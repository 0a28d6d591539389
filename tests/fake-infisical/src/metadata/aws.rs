//! The metadata service of EC2, version 2 only: it requires a session.
//!
//! The hop limit affects only clients that are too far away: the answer to the `PUT` never arrives,
//! which is the fault `hang`.

use std::collections::HashMap;

use serde_json::json;
use uuid::Uuid;

use super::html;
use crate::calendar::iso8601;
use crate::clock::Millis;
use crate::fake::FakeInfisical;
use crate::http::request::Request;
use crate::http::response::Response;

const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// Session tokens and when they end.
#[derive(Default)]
pub struct Sessions(HashMap<String, Millis>);

pub(super) fn answer(fake: &mut FakeInfisical, request: &Request, path: &[&str]) -> Response {
    if !fake.state.cloud.aws.enabled {
        return html(403, "403 - Forbidden");
    }
    if path == ["api", "token"] {
        return open_session(fake, request);
    }
    let now = fake.clock.now();
    let token = request.header("x-aws-ec2-metadata-token").unwrap_or_default();
    let lives = fake.sessions.0.get(token).is_some_and(|end| now < *end);
    if !lives || request.method != "GET" {
        return html(401, "401 - Unauthorized");
    }
    answer_to(fake, request, path)
}

/// A request through a proxy gets no session.
fn open_session(fake: &mut FakeInfisical, request: &Request) -> Response {
    if request.method != "PUT" {
        return html(405, "405 - Method Not Allowed");
    }
    if request.header("x-forwarded-for").is_some() {
        return html(403, "403 - Forbidden");
    }
    let seconds = request.header(TTL).and_then(|text| text.parse::<u64>().ok());
    let Some(seconds) = seconds.filter(|seconds| (1..=21_600).contains(seconds)) else {
        return html(400, "400 - Bad Request");
    };
    let token = format!("AQAEA{}{}==", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    fake.sessions.0.insert(token.clone(), fake.clock.now() + seconds * 1000);
    plain(&token).with_header(TTL, seconds.to_string())
}

fn answer_to(fake: &FakeInfisical, request: &Request, path: &[&str]) -> Response {
    let aws = &fake.state.cloud.aws;
    match (path, &aws.role) {
        (["meta-data", "placement", "region"], _) => plain(&aws.region),
        (["meta-data", "iam", "security-credentials"], Some(role)) => plain(role),
        (["meta-data", "iam", "info"], Some(role)) => plain(&format!(
            "{:#}",
            json!({
                "Code": "Success",
                "LastUpdated": format!("{}Z", &iso8601(fake.clock.real())[..19]),
                "InstanceProfileArn": format!("arn:aws:iam::{}:instance-profile/{role}", aws.account),
                "InstanceProfileId": "AIPADOUBLEEXAMPLE000",
            })
        )),
        (["meta-data", "iam", "security-credentials", name], Some(role))
            if name == role && !request.path.ends_with('/') =>
        {
            credentials(fake)
        }
        _ => html(404, "404 - Not Found"),
    }
}

fn credentials(fake: &FakeInfisical) -> Response {
    let (aws, now) = (&fake.state.cloud.aws, fake.clock.real());
    let time = |at: Millis| format!("{}Z", &iso8601(at)[..19]);
    let body = if aws.code == "Success" {
        json!({
            "Code": aws.code,
            "LastUpdated": time(now),
            "Type": "AWS-HMAC",
            "AccessKeyId": aws.access_key_id,
            "SecretAccessKey": aws.secret_access_key,
            "Token": aws.session_token,
            "Expiration": time(now + 6 * 3_600_000),
        })
    } else {
        let message = "EC2 cannot assume the role. See the documentation.";
        json!({"Code": aws.code, "Message": message, "LastUpdated": time(now)})
    };
    plain(&format!("{body:#}"))
}

fn plain(text: &str) -> Response {
    Response::typed(200, "text/plain", text.as_bytes().to_vec())
}
