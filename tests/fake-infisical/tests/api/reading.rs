//! Lists and single reads.

use crate::support::{FakeInfisical, PROJECT, map, myapp, pairs};
use serde_json::{Value, json};

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn listed_secret_has_every_field_and_imported_secret_fewer() {
    let fake = FakeInfisical::start(&[]);
    let answer = fake.member().get(&myapp("", "")).json();
    let secret = &answer["secrets"][1];
    assert_eq!(
        keys(secret),
        [
            "_id",
            "createdAt",
            "environment",
            "id",
            "isRotatedSecret",
            "rotationId",
            "secretComment",
            "secretKey",
            "secretMetadata",
            "secretPath",
            "secretReminderNote",
            "secretReminderRepeatDays",
            "secretValue",
            "secretValueHidden",
            "skipMultilineEncoding",
            "tags",
            "type",
            "updatedAt",
            "version",
            "workspace",
        ]
    );
    assert_eq!(secret["workspace"], PROJECT);
    assert_eq!(secret["secretMetadata"][0]["isEncrypted"], false);

    let import = &answer["imports"][0];
    assert_eq!(keys(import), ["environment", "folderId", "secretPath", "secrets"]);
    let imported = &import["secrets"][0];
    let absent = [
        "createdAt",
        "updatedAt",
        "secretPath",
        "tags",
        "secretReminderNote",
        "secretReminderRepeatDays",
    ];
    for absent in absent {
        assert!(imported.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn imports_keep_their_order_and_are_flattened() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let imports = client.get(&myapp("", "")).json()["imports"].clone();
    assert_eq!(pairs(&imports[0]["secrets"]), map(&[("PORT", "1"), ("ONLY_OTHER", "o")]));
    assert_eq!(
        pairs(&imports[1]["secrets"]),
        map(&[("PORT", "2"), ("DB_HOST", "shadowed"), ("BASE", "2")])
    );
}

#[test]
fn get_prefers_the_directory_then_the_last_import() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let own = client.get(&myapp("/DB_HOST", "")).json();
    assert_eq!(own["secret"]["secretValue"], "db");
    let imported = client.get(&myapp("/PORT", "")).json();
    assert_eq!(
        (&imported["secret"]["secretValue"], &imported["secret"]["secretPath"]),
        (&json!("2"), &json!("/shared"))
    );
    let without = client.get(&myapp("/PORT", "&includeImports=false"));
    assert_eq!(
        without.error(),
        (404, "NotFound".into(), "Secret with name 'PORT' not found".into())
    );
}

#[test]
fn recursive_listing_names_each_directory() {
    let fake = FakeInfisical::start(&[]);
    let answer = fake.member().get(&myapp("", "&recursive=true")).json();
    let paths: Vec<_> = answer["secrets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["secretKey"].as_str().unwrap(), s["secretPath"].as_str().unwrap()))
        .collect();
    assert!(paths.contains(&("DEEP", "/myapp/deep")) && paths.contains(&("DB_HOST", "/myapp")));
    assert!(!paths.iter().any(|(key, _)| *key == "ROOT"));
}

#[test]
fn listing_filters_by_tag_and_metadata() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let tagged = map(&[("TAGGED", "t")]);
    assert_eq!(client.get(&myapp("", "&tagSlugs=x,%20db")).listed(), tagged);
    let filter = "&metadataFilter=key=owner,value=team-a%7Ckey=x,value=y";
    assert_eq!(client.get(&myapp("", filter)).listed(), tagged);
    let none = "&metadataFilter=key=owner,value=team-b";
    assert_eq!(client.get(&myapp("", none)).listed(), map(&[]));
}

#[test]
fn query_requires_strict_booleans_and_essentials_and_ignores_unknown_keys() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    assert_eq!(client.get(&myapp("", "&nonsense=1")).status, 200);
    for word in ["1", "True", "yes", ""] {
        let answer = client.get(&myapp("", &format!("&recursive={word}")));
        let (status, error, _) = answer.error();
        assert_eq!((status, error.as_str()), (422, "ValidationFailure"));
        let issue = &answer.json()["message"][0];
        assert_eq!(
            (&issue["code"], &issue["received"], &issue["path"]),
            (&json!("invalid_enum_value"), &json!(word), &json!(["recursive"]))
        );
    }
    let missing = "Missing project id or environment".to_owned();
    for target in ["?environment=prod", &format!("?projectId={PROJECT}")] {
        let answer = client.get(&format!("/api/v4/secrets{target}"));
        assert_eq!(answer.error(), (400, "BadRequest".into(), missing.clone()));
    }
    assert_eq!(client.get("/api/v4/secrets/K?environment=prod").status, 422);
    let answer = client.get(&format!("/api/v4/secrets/K?projectId={PROJECT}"));
    assert_eq!(answer.error().2, "Missing environment");
}

#[test]
fn missing_objects_have_distinct_errors() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let mut error = |target: &str| {
        let (status, error, message) = client.get(target).error();
        assert_eq!(status, 404);
        (error, message)
    };
    let list = |path: &str, environment: &str, more: &str| {
        format!(
            "/api/v4/secrets?projectId={PROJECT}&environment={environment}&secretPath={path}{more}"
        )
    };
    assert_eq!(
        error("/api/v4/secrets?projectId=nope&environment=prod"),
        (
            "NotFound".into(),
            "Project with ID 'nope' not found during bot lookup. \
             Are you sure you are using the correct project ID?"
                .into()
        )
    );
    assert_eq!(error(&list("/no", "prod", "")).0, "SecretPathNotFound");
    assert_eq!(error(&list("/", "no", "")).0, "SecretPathNotFound");
    assert_eq!(
        error(&list("/", "no", "&recursive=true")).1,
        format!("Environment with slug 'no' in project with ID {PROJECT} not found")
    );
    assert_eq!(error(&list("/no", "prod", "&recursive=true")).0, "SecretPathNotFound");
    let by_name = format!("/api/v4/secrets/K?projectId={PROJECT}&environment=prod&secretPath=/no");
    assert_eq!(
        error(&by_name),
        (
            "GetSecretByName".into(),
            "Folder with path '/no' in environment with slug 'prod' not found".into()
        )
    );
}

#[test]
fn permissions_filter_deny_or_hide() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let describe_only = json!([{"read": false, "write": false}]);
    fake.permit(describe_only.clone());
    let refused = client.get(&myapp("", ""));
    assert_eq!(
        refused.error(),
        (403, "PermissionDenied".into(), "You are not allowed to readValue on secrets".into())
    );
    assert_eq!(client.get(&myapp("/DB_HOST", "")).error().1, "ForbiddenReadSecretError");
    let hidden = client.get(&myapp("", "&viewSecretValue=false"));
    assert_eq!(hidden.listed()["DB_HOST"], "<hidden-by-infisical>");

    fake.settings(json!({"hiddenValues": true}));
    let answer = client.get(&myapp("", ""));
    assert_eq!(answer.listed()["DB_HOST"], "<hidden-by-infisical>");
    assert_eq!(answer.json()["secrets"][0]["secretValueHidden"], true);
    let one = client.get(&myapp("/DB_HOST", "")).json();
    assert_eq!(one["secret"]["secretValueHidden"], true);

    // Any describe rule keeps the list a 200, and empty
    fake.permit(json!([{"pathPrefix": "/elsewhere"}]));
    let empty = client.get(&myapp("", "")).json();
    assert_eq!(empty["secrets"], json!([]));
    let imports = empty["imports"].as_array().unwrap();
    assert!(imports.iter().all(|import| import["secrets"] == json!([])));
    fake.permit(json!([]));
    assert_eq!(client.get(&myapp("", "")).error().1, "PermissionDenied");
    let body = json!({"project": PROJECT, "identity": crate::support::IDENTITY, "member": false});
    fake.control("PUT", "/permission", &body);
    assert_eq!(client.get(&myapp("", "")).error().1, "ProjectMembershipNotFound");
}

#[test]
fn unreadable_directories_are_omitted_and_unreadable_references_kept() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    fake.permit(json!([
        {"pathPrefix": "/myapp", "read": false},
        {"pathPrefix": "/myapp/deep"},
        {"pathPrefix": "/other"},
    ]));
    let from_root =
        format!("/api/v4/secrets?projectId={PROJECT}&environment=prod&recursive=true&secretPath=/");
    let seen = client.get(&from_root);
    assert_eq!(seen.listed(), map(&[("DEEP", "d"), ("PORT", "1"), ("ONLY_OTHER", "o")]));

    fake.permit(json!([{"pathPrefix": "/myapp"}, {"pathPrefix": "/other"}]));
    let answer = client.get(&myapp("", ""));
    let (status, error, message) = answer.error();
    assert_eq!((status, error.as_str()), (403, "ForbiddenError"));
    assert_eq!(message, "Failed to expand one or more secret references");
    assert!(answer.json()["details"][0].as_str().unwrap().contains("'PORT'"));
    let imports = client.get(&myapp("", "&expandSecretReferences=false")).json()["imports"].clone();
    assert_eq!(imports.as_array().unwrap().len(), 2);
    assert_eq!(imports[0]["secretPath"], "/other");
    assert_eq!(
        (&imports[1]["secretPath"], &imports[1]["secrets"]),
        (&json!("/shared"), &json!([]))
    );
}

#[test]
fn earlier_version_by_name_has_fewer_fields() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    let secret = client.get(&myapp("/TAGGED", "&version=1")).json()["secret"].clone();
    for absent in ["tags", "secretMetadata", "isRotatedSecret", "rotationId"] {
        assert!(secret.get(absent).is_none(), "{absent}");
    }
    assert_eq!((&secret["secretValue"], &secret["secretPath"]), (&json!("t"), &json!("/myapp")));
}

#[test]
fn answer_repeats_the_path_of_the_request() {
    let fake = FakeInfisical::start(&[]);
    let mut client = fake.member();
    for (sent, below) in
        [("/myapp", "/myapp/deep"), ("/myapp/", "/myapp/deep"), ("myapp", "myapp/deep")]
    {
        let at = |name: &str| {
            format!("/api/v4/secrets{name}?projectId={PROJECT}&environment=prod&secretPath={sent}")
        };
        let listed = client.get(&format!("{}&recursive=true", at(""))).json();
        let paths: Vec<_> = listed["secrets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|secret| secret["secretPath"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(paths, [sent, sent, sent, below]);
        assert_eq!(client.get(&at("/DB_HOST")).json()["secret"]["secretPath"], sent);
        // An import's is the import's
        assert_eq!(client.get(&at("/PORT")).json()["secret"]["secretPath"], "/shared");
    }
    let root = format!("/api/v4/secrets?projectId={PROJECT}&environment=prod&recursive=true");
    let listed = client.get(&root).json();
    let has = |path: &str| {
        listed["secrets"].as_array().unwrap().iter().any(|secret| secret["secretPath"] == path)
    };
    assert!(has("/") && has("/myapp/deep"));
}

#[test]
fn v3_without_a_project_names_both_parameters() {
    let fake = FakeInfisical::start(&["--dialect", "v3-only"]);
    let mut client = fake.member();
    let message = "You must provide projectSlug or workspaceId".to_owned();
    for name in ["", "/K"] {
        let target = format!("/api/v3/secrets/raw{name}?environment=prod");
        assert_eq!(client.get(&target).error(), (400, "BadRequest".into(), message.clone()));
    }
    let body = json!({"environment": "prod", "secretValue": "v"});
    assert_eq!(client.write("POST", "/api/v3/secrets/raw/K", &body).error().2, message);
}

#[test]
fn etags_answer_304_without_a_body() {
    for (dialect, target) in
        [("v4-2026", myapp("", "")), ("v4-2026", myapp("/DB_HOST", "")), ("v4-2025", myapp("", ""))]
    {
        let fake = FakeInfisical::start(&["--dialect", dialect]);
        let mut client = fake.member();
        let etag = client.get(&target).header("etag").to_owned();
        let seen = [("if-none-match", etag.as_str())];
        let again = client.send("GET", &target, &seen, None).unwrap();
        assert_eq!((again.status, again.body.len()), (304, 0));
        assert_eq!(again.header("etag"), etag);
        assert_eq!(fake.control("GET", "/stats", &json!({}))["notModified"], 1);

        let change = json!({"project": PROJECT, "environment": "prod", "path": "/myapp",
                            "key": "DB_HOST", "value": "new"});
        fake.control("PUT", "/secret", &change);
        assert_eq!(client.send("GET", &target, &seen, None).unwrap().status, 200);
        // Authorisation comes before the ETag
        fake.permit(json!([]));
        assert_eq!(client.send("GET", &target, &seen, None).unwrap().status, 403);
    }
}

#[test]
fn other_project_type_is_a_bad_request() {
    let mut state = crate::support::state();
    state["projects"][0]["type"] = json!("cert-manager");
    let fake = FakeInfisical::with_state(&state, &[]);
    let answer = fake.member().get(&myapp("", ""));
    assert_eq!(answer.error().1, "BadRequest");
}
