//! Delayed permissions, and the tags of listings.

use serde_json::{Value, json};

use crate::support::{Answer, Client, FakeInfisical, IDENTITY, PROJECT, myapp};

fn conditional(client: &mut Client, target: &str, tag: &str) -> Answer {
    client.send("GET", target, &[("if-none-match", tag)], None).unwrap()
}

fn end_membership(fake: &FakeInfisical) {
    let body = json!({"project": PROJECT, "identity": IDENTITY, "member": false});
    fake.control("PUT", "/permission", &body);
}

fn put(fake: &FakeInfisical, value: &str, more: &Value) {
    let mut body = json!({"project": PROJECT, "environment": "prod", "path": "/myapp",
                          "key": "DB_HOST", "value": value});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fake.control("PUT", "/secret", &body);
}

#[test]
fn permission_change_takes_effect_after_ten_seconds() {
    let fake = FakeInfisical::start(&[]);
    fake.settings(json!({"permissionCacheSeconds": 10}));
    let mut client = fake.member();
    assert_eq!(client.get(&myapp("", "")).status, 200);
    fake.permit(json!([]));
    fake.advance(9);
    assert_eq!(client.get(&myapp("", "")).status, 200);
    assert_eq!(client.get(&myapp("/DB_HOST", "")).status, 200);
    fake.advance(1);
    assert_eq!(client.get(&myapp("", "")).error().1, "PermissionDenied");
    assert_eq!(client.get(&myapp("/DB_HOST", "")).error().1, "PermissionDenied");
    // The reverse change has the same delay
    fake.control("PUT", "/permission", &json!({"project": PROJECT, "identity": IDENTITY}));
    assert_eq!(client.get(&myapp("", "")).status, 403);
    fake.advance(10);
    assert_eq!(client.get(&myapp("", "")).status, 200);
}

#[test]
fn listing_within_the_delay_turns_later_conditional_ones_into_304() {
    let fake = FakeInfisical::start(&[]);
    fake.settings(json!({"permissionCacheSeconds": 10}));
    let mut client = fake.member();
    let target = myapp("", "");
    let tag = client.get(&target).header("etag").to_owned();
    end_membership(&fake);
    fake.advance(3);
    assert_eq!(client.get(&target).status, 200);
    fake.advance(10);
    assert_eq!(client.get(&target).error().1, "ProjectMembershipNotFound");
    let hidden = conditional(&mut client, &target, &tag);
    assert_eq!((hidden.status, hidden.header("etag")), (304, tag.as_str()));
    // A write ends it
    put(&fake, "new", &json!({}));
    assert_eq!(conditional(&mut client, &target, &tag).status, 403);
}

#[test]
fn conditional_listing_after_the_delay_is_denied() {
    let fake = FakeInfisical::start(&[]);
    fake.settings(json!({"permissionCacheSeconds": 10}));
    let mut client = fake.member();
    let target = myapp("", "");
    let tag = client.get(&target).header("etag").to_owned();
    end_membership(&fake);
    fake.advance(10);
    assert_eq!(conditional(&mut client, &target, &tag).status, 403);
}

#[test]
fn tag_ends_900_seconds_after_the_last_200() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let target = myapp("", "");
    let tag = client.get(&target).header("etag").to_owned();
    let now = fake.control("POST", "/clock", &json!({"advanceSeconds": 0}))["nowMs"].clone();
    // Away from midnight, at which all tags end
    let into_day = now.as_u64().unwrap() / 1000 % 86_400;
    if into_day > 80_000 {
        fake.advance(86_400 - into_day);
        client.get(&target);
    }
    fake.advance(899);
    assert_eq!(conditional(&mut client, &target, &tag).status, 304);
    fake.advance(1);
    let whole = conditional(&mut client, &target, &tag);
    assert_eq!((whole.status, whole.header("etag")), (200, tag.as_str()));
    assert_eq!(conditional(&mut client, &target, &tag).status, 304);
    fake.advance(86_400);
    client.get(&myapp("/DB_HOST", ""));
    assert_eq!(conditional(&mut client, &target, &tag).status, 200);
}

#[test]
fn write_overlapped_by_a_listing_leaves_the_old_tag() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let target = myapp("", "");
    let tag = client.get(&target).header("etag").to_owned();
    put(&fake, "new", &json!({"overlapped": true}));
    assert_eq!(conditional(&mut client, &target, &tag).status, 304);
    // One plain 200 corrects it
    assert_eq!(client.get(&target).listed()["DB_HOST"], "new");
    assert_eq!(conditional(&mut client, &target, &tag).status, 200);
}

#[test]
fn write_by_the_api_ends_tags_of_its_project() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let target = myapp("", "");
    let tag = client.get(&target).header("etag").to_owned();
    let elsewhere = json!({"projectId": PROJECT, "environment": "prod", "secretPath": "/empty",
                           "secretValue": "v"});
    assert_eq!(client.write("POST", "/api/v4/secrets/NEW", &elsewhere).status, 200);
    let again = conditional(&mut client, &target, &tag);
    assert_eq!((again.status, again.header("etag")), (200, tag.as_str()), "unchanged, and whole");
}

#[test]
fn v3_listing_has_the_native_tag_of_v4() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let query = "environment=prod&secretPath=/other&expandSecretReferences=true";
    let v3 = format!("/api/v3/secrets/raw?workspaceId={PROJECT}&include_imports=true&{query}");
    let tag = client.get(&v3).header("etag").to_owned();
    assert_eq!(tag.len(), 66, "no SHA-1 of the body");
    assert_eq!(conditional(&mut client, &v3, &tag).status, 304);
    let v4 = format!("/api/v4/secrets?projectId={PROJECT}&includeImports=true&{query}");
    assert_eq!(client.get(&v4).header("etag"), tag);
}
