//! Writes of one secret by its name.

use serde_json::json;

use super::call::Call;
use super::error::ApiError;
use super::fields::Fields;
use super::session::{Place, Requirement, Write, WriteSession, check_name};
use crate::dialect::Api;
use crate::http::response::Response;
use crate::state::permission::Action;

pub fn create(mut call: Call<'_>, api: Api, name: &str) -> Result<Response, ApiError> {
    let claims = call.authenticate()?;
    let name = name.trim().to_owned();
    let dialect = call.fake.dialect;
    let mut params = Fields::none();
    check_name(&mut params, "secretName", &name, dialect);
    params.finish()?;
    let mut body = Fields::of_body(call.request)?;
    let place = Place::read(&mut body, api);
    let write = Write::read(&mut body, name, Requirement::Value, dialect);
    let personal = is_personal(&mut body);
    body.finish()?;

    let mut session = WriteSession::open(&mut call, &claims, place, "CreateSecret")?;
    session.permit(Action::Create)?;
    refuse_personal(personal)?;
    let draft = session.draft(&write)?;
    if session.folder()?.secrets.contains_key(&write.key) {
        return Err(ApiError::bad_request("Secret already exists"));
    }
    let secret = session.change(|writer, folder| writer.create(folder, &write.key, draft))?;
    Ok(Response::json(200, &json!({ "secret": secret })))
}

pub fn update(mut call: Call<'_>, api: Api, name: &str) -> Result<Response, ApiError> {
    let claims = call.authenticate()?;
    let dialect = call.fake.dialect;
    let mut body = Fields::of_body(call.request)?;
    let place = Place::read(&mut body, api);
    let write = Write::read(&mut body, name.trim().to_owned(), Requirement::Nothing, dialect);
    let personal = is_personal(&mut body);
    body.finish()?;

    let mut session = WriteSession::open(&mut call, &claims, place, "UpdateSecret")?;
    session.permit(Action::Edit)?;
    refuse_personal(personal)?;
    let folder = session.folder()?;
    let not_found = || ApiError::not_found(format!("Secret with name {} not found", write.key));
    if !folder.secrets.contains_key(&write.key) {
        return Err(not_found());
    }
    let new_name = write.draft.new_name.as_ref().filter(|new| **new != write.key);
    if new_name.is_some_and(|new| folder.secrets.contains_key(new)) {
        return Err(ApiError::bad_request("Secret with the new name already exists"));
    }
    let draft = session.draft(&write)?;
    let secret = session
        .change(|writer, folder| writer.update(folder, &write.key, draft))?
        .ok_or_else(not_found)?;
    Ok(Response::json(200, &json!({ "secret": secret })))
}

pub fn delete(mut call: Call<'_>, api: Api, name: &str) -> Result<Response, ApiError> {
    let claims = call.authenticate()?;
    let mut body = Fields::of_body(call.request)?;
    let place = Place::read(&mut body, api);
    let personal = is_personal(&mut body);
    body.finish()?;

    let mut session = WriteSession::open(&mut call, &claims, place, "DeleteSecret")?;
    session.permit(Action::Delete)?;
    refuse_personal(personal)?;
    let secret = session
        .change(|writer, folder| writer.delete(folder, name))?
        .ok_or_else(|| ApiError::not_found("Secret not found"))?;
    Ok(Response::json(200, &json!({ "secret": secret })))
}

fn is_personal(body: &mut Fields) -> bool {
    body.choice("type", &["shared", "personal"], "shared") == "personal"
}

fn refuse_personal(personal: bool) -> Result<(), ApiError> {
    if personal {
        return Err(ApiError::bad_request("Must be user to create personal secret"));
    }
    Ok(())
}
