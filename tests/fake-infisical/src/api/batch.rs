//! Writes of many secrets at once: all of them, or none.

use serde_json::json;

use super::call::Call;
use super::error::ApiError;
use super::fields::Fields;
use super::session::{Place, Requirement, Write, WriteSession, check_name};
use crate::dialect::{Api, Dialect};
use crate::http::response::Response;
use crate::state::permission::Action;

pub fn create(mut call: Call<'_>, api: Api) -> Result<Response, ApiError> {
    let claims = call.authenticate()?;
    let dialect = call.fake.dialect;
    let mut body = Fields::of_body(call.request)?;
    let place = Place::of_batch(&mut body, api, call.fake.settings.batch_by_slug);
    let writes = read_batch(&mut body, Requirement::Value, dialect);
    body.finish()?;

    let mut session = WriteSession::open(&mut call, &claims, place, "CreateManySecret")?;
    session.permit(Action::Create)?;
    let folder = session.folder()?;
    let present = |write: &&Write| folder.secrets.contains_key(&write.key);
    let present = keys(writes.iter().filter(present));
    if !present.is_empty() {
        return Err(ApiError::bad_request(format!("Secret already exists: {present}")));
    }
    let drafts = session.drafts(&writes)?;
    let secrets: Vec<_> = session.change(|writer, folder| {
        let each = drafts.into_iter();
        each.map(|(key, draft)| writer.create(folder, &key, draft)).collect()
    })?;
    Ok(Response::json(200, &json!({ "secrets": secrets })))
}

pub fn update(mut call: Call<'_>, api: Api) -> Result<Response, ApiError> {
    let claims = call.authenticate()?;
    let dialect = call.fake.dialect;
    let mut body = Fields::of_body(call.request)?;
    let place = Place::of_batch(&mut body, api, call.fake.settings.batch_by_slug);
    let modes = ["failOnNotFound", "upsert", "ignore"];
    let mode = body.choice("mode", &modes, "failOnNotFound");
    let writes = read_batch(&mut body, Requirement::Nothing, dialect);
    body.finish()?;

    let mut session = WriteSession::open(&mut call, &claims, place, "UpdateManySecret")?;
    session.permit(Action::Edit)?;
    let folder = session.folder()?;
    let missing = |write: &&Write| !folder.secrets.contains_key(&write.key);
    let missing = keys(writes.iter().filter(missing));
    if !missing.is_empty() && mode == "failOnNotFound" {
        return Err(ApiError::not_found(format!("Secret does not exist: {missing}")));
    }
    let upsert = mode == "upsert" && !missing.is_empty();
    if upsert {
        session.permit(Action::Create)?;
    }
    let drafts = session.drafts(&writes)?;
    let secrets: Vec<_> = session.change(|writer, folder| {
        let each = drafts.into_iter();
        each.filter_map(|(key, draft)| {
            if upsert && !folder.secrets.contains_key(&key) {
                return Some(writer.create(folder, &key, draft));
            }
            writer.update(folder, &key, draft)
        })
        .collect()
    })?;
    Ok(Response::json(200, &json!({ "secrets": secrets })))
}

pub fn delete(mut call: Call<'_>, api: Api) -> Result<Response, ApiError> {
    let claims = call.authenticate()?;
    let mut body = Fields::of_body(call.request)?;
    let place = Place::of_batch(&mut body, api, call.fake.settings.batch_by_slug);
    let mut names = Vec::new();
    for mut item in body.objects("secrets") {
        names.push(item.required("secretKey"));
        body.absorb(item);
    }
    body.finish()?;

    let mut session = WriteSession::open(&mut call, &claims, place, "DeleteManySecret")?;
    session.permit(Action::Delete)?;
    let folder = session.folder()?;
    let missing = |name: &&String| !folder.secrets.contains_key(*name);
    let missing: Vec<_> = names.iter().filter(missing).cloned().collect();
    if !missing.is_empty() {
        let missing = missing.join(",");
        return Err(ApiError::not_found(format!("One or more secrets does not exist: {missing}")));
    }
    let secrets: Vec<_> = session.change(|writer, folder| {
        let each = names.iter();
        each.filter_map(|name| writer.delete(folder, name)).collect()
    })?;
    Ok(Response::json(200, &json!({ "secrets": secrets })))
}

fn read_batch(body: &mut Fields, requirement: Requirement, dialect: Dialect) -> Vec<Write> {
    let mut writes = Vec::new();
    for mut item in body.objects("secrets") {
        let key = item.required("secretKey");
        check_name(&mut item, "secretKey", &key, dialect);
        writes.push(Write::read(&mut item, key, requirement, dialect));
        body.absorb(item);
    }
    writes
}

fn keys<'a>(writes: impl Iterator<Item = &'a Write>) -> String {
    writes.map(|w| w.key.as_str()).collect::<Vec<_>>().join(",")
}
