//! What a test sends: users and notes that nobody is and nobody wrote.

use chrono::SecondsFormat;
use postrider_core::Timestamp;
use serde_json::{Value, json};

/// The body of a test event of this type; Misskey sends none for a reaction.
pub(super) fn body_of(event_type: &str, now: Timestamp) -> Option<String> {
    let body = match event_type {
        "follow" | "followed" | "unfollow" => json!({ "user": user(1) }),
        "reply" => json!({ "note": with("replyId", "reply", note(2, now), note(1, now)) }),
        "renote" => json!({ "note": with("renoteId", "renote", note(2, now), note(1, now)) }),
        "note" | "mention" => json!({ "note": note(1, now) }),
        _ => return None,
    };
    Some(body.to_string())
}

fn user(number: u32) -> Value {
    json!({
        "id": format!("dummy-user-{number}"),
        "name": format!("DummyUser{number}"),
        "username": format!("dummy{number}"),
        "host": null,
        "avatarUrl": null,
        "avatarBlurhash": null,
        "avatarDecorations": [],
        "isBot": false,
        "isCat": false,
        "emojis": {},
        "onlineStatus": "active",
        "badgeRoles": [],
    })
}

fn note(number: u32, now: Timestamp) -> Value {
    json!({
        "id": format!("dummy-note-{number}"),
        "createdAt": now.to_rfc3339_opts(SecondsFormat::Millis, true),
        "userId": format!("dummy-user-{number}"),
        "user": user(number),
        "text": "This is a dummy note for testing purposes.",
        "cw": null,
        "visibility": "public",
        "localOnly": false,
        "reactionAcceptance": null,
        "renoteCount": 0,
        "repliesCount": 0,
        "reactionCount": 0,
        "reactions": {},
        "reactionEmojis": {},
        "fileIds": [],
        "files": [],
        "replyId": null,
        "renoteId": null,
    })
}

/// A note that answers or repeats another.
fn with(id_name: &str, name: &str, mut note: Value, other: Value) -> Value {
    note[id_name] = other["id"].clone();
    note[name] = other;
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_the_body_that_it_is_described_with() {
        let body = |event_type| {
            let text = body_of(event_type, chrono::DateTime::UNIX_EPOCH)?;
            serde_json::from_str::<Value>(&text).ok()
        };
        for event_type in ["follow", "followed", "unfollow"] {
            assert_eq!(body(event_type).unwrap()["user"]["id"], "dummy-user-1");
        }
        for event_type in ["note", "mention"] {
            assert_eq!(body(event_type).unwrap()["note"]["id"], "dummy-note-1");
        }
        let reply = body("reply").unwrap();
        assert_eq!(reply["note"]["replyId"], reply["note"]["reply"]["id"]);
        assert_eq!(
            body("renote").unwrap()["note"]["renote"]["id"],
            "dummy-note-1"
        );
        assert_eq!(body("reaction"), None);
    }
}
