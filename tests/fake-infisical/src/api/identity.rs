//! The endpoints of machine identities. None of them reads an `Authorization` header.

use serde_json::json;

use super::call::Call;
use super::error::ApiError;
use super::fields::Fields;
use super::route::LoginMethod;
use crate::auth::aws::SignedRequest;
use crate::auth::login::{self, Credentials};
use crate::auth::{aws, azure, gcp, kubernetes, renewal, tls_cert, token_login};
use crate::http::response::Response;

pub fn login(call: Call<'_>) -> Result<Response, ApiError> {
    let mut body = Fields::of_body(call.request)?;
    let credentials = Credentials {
        client_id: body.required("clientId"),
        client_secret: body.required("clientSecret"),
        sub_organisation: body.text("subOrganizationName").or(body.text("organizationSlug")),
    };
    body.finish()?;
    let grant = login::login(call.fake, &credentials, call.from)?;
    Ok(Response::json(200, &grant))
}

/// Login by a method other than universal auth.
pub fn login_by(call: Call<'_>, method: LoginMethod) -> Result<Response, ApiError> {
    let mut body = Fields::of_body(call.request)?;
    let identity = body.required("identityId");
    if method == LoginMethod::Aws {
        let request = SignedRequest {
            method: body.text("iamHttpRequestMethod").unwrap_or_else(|| "POST".to_owned()),
            headers: body.required_untrimmed("iamRequestHeaders"),
            body: body.required_untrimmed("iamRequestBody"),
        };
        body.finish()?;
        aws::verify(call.fake, &identity, &request)?;
    } else if method == LoginMethod::TlsCert {
        body.finish()?;
        tls_cert::verify(call.fake, &identity, call.request.header(tls_cert::HEADER))?;
    } else {
        let jwt = body.required("jwt");
        body.finish()?;
        let verify = match method {
            LoginMethod::Gcp => gcp::verify,
            LoginMethod::Azure => azure::verify,
            LoginMethod::Jwt => token_login::verify_jwt,
            LoginMethod::Oidc => token_login::verify_oidc,
            LoginMethod::Spiffe => token_login::verify_spiffe,
            _ => kubernetes::verify,
        };
        verify(call.fake, &identity, &jwt)?;
    }
    let grant = login::admit(call.fake, &identity, method.name())?;
    Ok(Response::json(200, &grant))
}

pub fn renew(call: Call<'_>) -> Result<Response, ApiError> {
    let token = access_token(&call)?;
    let grant = renewal::renew(call.fake, &token)?;
    Ok(Response::json(200, &grant))
}

pub fn revoke(call: Call<'_>) -> Result<Response, ApiError> {
    let token = access_token(&call)?;
    renewal::revoke(call.fake, &token)?;
    let body = json!({"message": "Successfully revoked access token"});
    Ok(Response::json(200, &body))
}

fn access_token(call: &Call<'_>) -> Result<String, ApiError> {
    let mut body = Fields::of_body(call.request)?;
    let token = body.required("accessToken");
    body.finish()?;
    Ok(token)
}
