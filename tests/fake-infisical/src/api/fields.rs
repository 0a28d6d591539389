//! Parses parameters of a query or a body as the server's zod schemas do: unknown keys are dropped,
//! and all errors are reported at once, as a 422.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use crate::http::read::LARGEST_BODY;
use crate::http::request::Request;
use crate::state::project::normal_path;
use crate::text::js_trim;

pub struct Fields {
    map: Map<String, Value>,
    path: Vec<Value>,
    issues: Vec<Value>,
}

impl Fields {
    pub fn of_query(request: &Request) -> Self {
        Self::new(request.query_map(), Vec::new())
    }

    /// A body that Fastify cannot parse is the server's catch-all, a 500; an absent one, a text or
    /// a form fails in the schema.
    pub fn of_body(request: &Request) -> Result<Self, ApiError> {
        if request.body_bytes > LARGEST_BODY {
            return Err(ApiError::internal());
        }
        if request.body_bytes == 0 {
            return Err(ApiError::invalid(vec![no_body()]));
        }
        let content_type = request.header("content-type").unwrap_or_default();
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json" => {}
            "text/plain" | "application/x-www-form-urlencoded" => {
                return Err(ApiError::invalid(vec![wrong_type("object", &json!(""), &[])]));
            }
            _ => return Err(ApiError::internal()),
        }
        match serde_json::from_slice(&request.body) {
            Ok(Value::Object(map)) => Ok(Self::new(map, Vec::new())),
            Ok(other) => Err(ApiError::invalid(vec![wrong_type("object", &other, &[])])),
            Err(_) => Err(ApiError::internal()),
        }
    }

    /// For values that come neither from a query nor from a body.
    pub fn none() -> Self {
        Self::new(Map::new(), Vec::new())
    }

    fn new(map: Map<String, Value>, path: Vec<Value>) -> Self {
        Self { map, path, issues: Vec::new() }
    }

    pub fn text(&mut self, key: &str) -> Option<String> {
        self.untrimmed(key).map(|text| js_trim(&text).to_owned())
    }

    pub fn untrimmed(&mut self, key: &str) -> Option<String> {
        match self.map.get(key)? {
            Value::String(text) => Some(text.clone()),
            other => {
                let issue = wrong_type("string", other, &self.path_to(key));
                self.issues.push(issue);
                None
            }
        }
    }

    pub fn required(&mut self, key: &str) -> String {
        js_trim(&self.required_untrimmed(key)).to_owned()
    }

    pub fn required_untrimmed(&mut self, key: &str) -> String {
        if !self.map.contains_key(key) {
            self.missing(key, "string");
        }
        self.untrimmed(key).unwrap_or_default()
    }

    /// A folder: `/` by default, with or without a trailing slash.
    pub fn folder(&mut self, key: &str) -> String {
        normal_path(&self.sent_folder(key))
    }

    /// The same, as it was sent.
    pub fn sent_folder(&mut self, key: &str) -> String {
        self.text(key).filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned())
    }

    /// The literal words `true` and `false`; anything else is an error, also `1`.
    pub fn flag(&mut self, key: &str, default: bool) -> bool {
        let default = if default { "true" } else { "false" };
        self.choice(key, &["true", "false"], default) == "true"
    }

    pub fn choice(&mut self, key: &str, options: &[&str], default: &str) -> String {
        let Some(value) = self.map.get(key) else {
            return default.to_owned();
        };
        match value.as_str() {
            Some(word) if options.contains(&word) => word.to_owned(),
            _ => {
                let expected: Vec<_> = options.iter().map(|o| format!("'{o}'")).collect();
                let received = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let message = format!(
                    "Invalid enum value. Expected {}, received '{received}'",
                    expected.join(" | ")
                );
                let issue = json!({
                    "received": value,
                    "code": "invalid_enum_value",
                    "options": options,
                    "path": self.path_to(key),
                    "message": message,
                });
                self.issues.push(issue);
                default.to_owned()
            }
        }
    }

    /// `z.coerce.number()`: everything that JavaScript converts to a number.
    pub fn number(&mut self, key: &str) -> Option<u64> {
        let text = self.untrimmed(key)?;
        match text.trim().parse() {
            Ok(number) => Some(number),
            Err(_) => {
                let issue = json!({
                    "code": "invalid_type",
                    "expected": "number",
                    "received": "nan",
                    "path": self.path_to(key),
                    "message": "Expected number, received nan",
                });
                self.issues.push(issue);
                None
            }
        }
    }

    /// Any other JSON, null counting as absent.
    pub fn typed<T: DeserializeOwned>(&mut self, key: &str, expected: &str) -> Option<T> {
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        match serde_json::from_value(value.clone()) {
            Ok(typed) => Some(typed),
            Err(_) => {
                let issue = wrong_type(expected, value, &self.path_to(key));
                self.issues.push(issue);
                None
            }
        }
    }

    /// A list of at least one object; each must be returned to [`Self::absorb`].
    pub fn objects(&mut self, key: &str) -> Vec<Self> {
        let path = self.path_to(key);
        match self.map.remove(key) {
            None => self.missing(key, "array"),
            Some(Value::Array(items)) if items.is_empty() => {
                self.issues.push(json!({
                    "code": "too_small",
                    "minimum": 1,
                    "type": "array",
                    "inclusive": true,
                    "exact": false,
                    "message": "Array must contain at least 1 element(s)",
                    "path": path,
                }));
            }
            Some(Value::Array(items)) => {
                let mut objects = Vec::new();
                for (index, item) in items.into_iter().enumerate() {
                    let path = [path.as_slice(), &[json!(index)]].concat();
                    match item {
                        Value::Object(map) => objects.push(Self::new(map, path)),
                        other => self.issues.push(wrong_type("object", &other, &path)),
                    }
                }
                return objects;
            }
            Some(other) => self.issues.push(wrong_type("array", &other, &path)),
        }
        Vec::new()
    }

    pub fn absorb(&mut self, child: Self) {
        self.issues.extend(child.issues);
    }

    /// A rule beyond types, with the server's message.
    pub fn refuse(&mut self, key: &str, message: &str) {
        let issue = json!({"code": "custom", "message": message, "path": self.path_to(key)});
        self.issues.push(issue);
    }

    pub fn finish(self) -> Result<(), ApiError> {
        if self.issues.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.issues)) }
    }

    fn missing(&mut self, key: &str, expected: &str) {
        let issue = json!({
            "code": "invalid_type",
            "expected": expected,
            "received": "undefined",
            "path": self.path_to(key),
            "message": "Required",
        });
        self.issues.push(issue);
    }

    fn path_to(&self, key: &str) -> Vec<Value> {
        [self.path.as_slice(), &[json!(key)]].concat()
    }
}

fn no_body() -> Value {
    json!({
        "code": "invalid_type",
        "expected": "object",
        "received": "undefined",
        "path": [],
        "message": "Required",
    })
}

fn wrong_type(expected: &str, value: &Value, path: &[Value]) -> Value {
    let received = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    json!({
        "code": "invalid_type",
        "expected": expected,
        "received": received,
        "path": path,
        "message": format!("Expected {expected}, received {received}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(query: &str) -> Fields {
        Fields::of_query(&Request { target: format!("/?{query}"), ..Request::default() })
    }

    fn issues(fields: Fields) -> Value {
        fields.finish().unwrap_err().parts().2.clone()
    }

    #[test]
    fn booleans_accept_only_true_and_false() {
        let mut fields = query("a=true&b=false");
        assert!(fields.flag("a", false) && !fields.flag("b", true) && fields.flag("c", true));
        assert!(fields.finish().is_ok());

        let mut fields = query("recursive=1");
        fields.flag("recursive", false);
        assert_eq!(
            issues(fields),
            json!([{
                "received": "1", "code": "invalid_enum_value", "options": ["true", "false"],
                "path": ["recursive"],
                "message": "Invalid enum value. Expected 'true' | 'false', received '1'",
            }])
        );
    }

    #[test]
    fn every_issue_is_reported_with_its_path() {
        let body = json!({"secrets": [{"secretKey": 1}, 2]}).to_string();
        let mut request =
            Request { body_bytes: body.len(), body: body.into_bytes(), ..Request::default() };
        request.headers.insert("content-type".into(), "application/json".into());
        let mut fields = Fields::of_body(&request).unwrap();
        fields.required("projectId");
        for mut item in fields.objects("secrets") {
            item.required("secretKey");
            fields.absorb(item);
        }
        let issues = issues(fields);
        let paths: Vec<_> = issues.as_array().unwrap().iter().map(|i| &i["path"]).collect();
        let expected =
            [&json!(["projectId"]), &json!(["secrets", 1]), &json!(["secrets", 0, "secretKey"])];
        assert_eq!(paths, expected);
    }
}
