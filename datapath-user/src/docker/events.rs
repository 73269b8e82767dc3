//! What an event of dockerd is a hint of. Never more than a hint: what is true is what a fetch answers.

use bollard::models::{EventMessage, EventMessageTypeEnum};

/// What to look at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A network.
    Network {
        /// Its id.
        network: String,
        /// The container that came to it or left it.
        container: Option<String>,
    },
    /// A container.
    Container {
        /// Its id.
        container: String,
        /// Whether its networks may say something else too.
        networks: bool,
    },
}

/// What this event is a hint of, if of anything.
pub fn hint(event: &EventMessage) -> Option<Hint> {
    let actor = event.actor.as_ref()?;
    let id = actor.id.clone().filter(|id| is_id(id))?;
    let attribute = |name: &str| actor.attributes.as_ref().and_then(|attributes| attributes.get(name));
    match event.typ? {
        EventMessageTypeEnum::NETWORK => {
            let bridge = attribute("type").is_none_or(|driver| driver == "bridge");
            let container = attribute("container").filter(|id| is_id(id)).cloned();
            bridge.then_some(Hint::Network { network: id, container })
        }
        EventMessageTypeEnum::CONTAINER => match event.action.as_deref()? {
            "start" | "restart" | "update" => Some(Hint::Container { container: id, networks: false }),
            "die" | "stop" | "destroy" | "rename" => Some(Hint::Container { container: id, networks: true }),
            _ => None,
        },
        _ => None,
    }
}

/// Whether this can be an id; anything else would become part of a URL.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<Hint> {
        hint(&serde_json::from_str(json).expect("an event"))
    }

    #[test]
    fn events_of_20_10() {
        // As dockerd 20.10.24 writes them, ids shortened.
        let connect = r#"{"Type":"network","Action":"connect","Actor":{"ID":"8e06b1","Attributes":{"container":"6c3b81",
            "name":"bridge","type":"bridge"}},"scope":"local","time":1764000000,"timeNano":1764000000000000001}"#;
        let network = Hint::Network { network: "8e06b1".to_owned(), container: Some("6c3b81".to_owned()) };
        assert_eq!(read(connect), Some(network));
        assert_eq!(read(&connect.replace(r#""type":"bridge""#, r#""type":"host""#)), None);

        let start = r#"{"status":"start","id":"6c3b81","from":"img","Type":"container","Action":"start","Actor":{
            "ID":"6c3b81","Attributes":{"image":"img","name":"web"}},"scope":"local","time":1,"timeNano":1}"#;
        let hint = |networks| Some(Hint::Container { container: "6c3b81".to_owned(), networks });
        assert_eq!(read(start), hint(false));
        assert_eq!(read(&start.replace("start", "die")), hint(true));
        assert_eq!(read(&start.replace("start", "rename")), hint(true));
        for nothing in ["exec_start: sh", "pause", "unpause", "health_status: healthy", "create", "attach", "oom"] {
            assert_eq!(read(&start.replace("start", nothing)), None, "{nothing}");
        }
    }

    #[test]
    fn garbage_is_a_hint_of_nothing() {
        for garbage in [
            "{}",
            r#"{"Type":"container","Action":"start"}"#,
            r#"{"Type":"container","Action":"start","Actor":{}}"#,
            r#"{"Type":"container","Action":"start","Actor":{"ID":""}}"#,
            r#"{"Type":"container","Action":"start","Actor":{"ID":"../../info"}}"#,
            r#"{"Type":"container","Actor":{"ID":"6c3b81"}}"#,
            r#"{"Type":"volume","Action":"start","Actor":{"ID":"6c3b81"}}"#,
        ] {
            assert_eq!(read(garbage), None, "{garbage}");
        }
    }
}
