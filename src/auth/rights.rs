//! Roles, and the rights they give together.
//!
//! A role is compiled once; the rights of a list of roles are their union, made once and
//! shared by all connections with the same list. `{principal}` and `{client_id}` are filled
//! in while matching ([`Who`]), so that a connection needs no filters of its own.
//!
//! A check allocates nothing and takes tens of nanoseconds (benches/rights.rs): it runs on
//! every PUBLISH and REQUEST. A right is one filter of one role; a name that only several rights
//! together would cover is not covered. Without rights nothing is allowed.

use super::pattern::Pattern;
pub use super::pattern::Who;
use crate::base::limits::ROLE_SETS_MAX;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A role as configured: filters, with `{principal}` and `{client_id}` as whole levels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    pub publish: Vec<String>,
    pub subscribe: Vec<String>,
    pub request: Vec<String>,
    pub serve: Vec<String>,
    /// May use the admin address's protected endpoints.
    pub admin: bool,
}

/// A role's filter that is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "roles.{role}.{list} has {filter:?}: {fault}; \
     write a topic filter such as \"devices/{{principal}}/#\""
)]
pub struct RoleError {
    pub role: String,
    pub list: &'static str,
    pub filter: String,
    pub fault: String,
}

/// What a client may do. Empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    publish: Box<[Pattern]>,
    subscribe: Box<[Pattern]>,
    request: Box<[Pattern]>,
    serve: Box<[Pattern]>,
    admin: bool,
}

impl Rights {
    fn compile(name: &str, role: &Role) -> Result<Rights, RoleError> {
        let list = |list: &'static str, filters: &[String]| {
            let compiled = filters.iter().map(|filter| {
                Pattern::compile(filter).map_err(|fault| RoleError {
                    role: name.to_owned(),
                    list,
                    filter: filter.clone(),
                    fault,
                })
            });
            compiled.collect::<Result<_, _>>()
        };
        Ok(Rights {
            publish: list("publish", &role.publish)?,
            subscribe: list("subscribe", &role.subscribe)?,
            request: list("request", &role.request)?,
            serve: list("serve", &role.serve)?,
            admin: role.admin,
        })
    }

    fn union<'a>(roles: impl Iterator<Item = &'a Rights> + Clone) -> Rights {
        let merge = |list: fn(&Rights) -> &[Pattern]| {
            let mut all: Vec<Pattern> = Vec::new();
            for pattern in roles.clone().flat_map(list) {
                if !all.contains(pattern) {
                    all.push(pattern.clone());
                }
            }
            all.into()
        };
        Rights {
            publish: merge(|rights| &rights.publish),
            subscribe: merge(|rights| &rights.subscribe),
            request: merge(|rights| &rights.request),
            serve: merge(|rights| &rights.serve),
            admin: roles.clone().any(|rights| rights.admin),
        }
    }

    /// Whether the client may publish on a (valid) topic.
    #[inline]
    pub fn may_publish(&self, topic: &str, who: Who<'_>) -> bool {
        covers(&self.publish, topic, who)
    }

    /// Whether the client may subscribe to a filter; with a topic instead, whether it may receive
    /// what is published on it.
    #[inline]
    pub fn may_subscribe(&self, filter: &str, who: Who<'_>) -> bool {
        covers(&self.subscribe, filter, who)
    }

    /// Whether the client may send requests to a service.
    #[inline]
    pub fn may_request(&self, service: &str, who: Who<'_>) -> bool {
        covers(&self.request, service, who)
    }

    /// Whether the client may serve all services of a filter.
    #[inline]
    pub fn may_serve(&self, filter: &str, who: Who<'_>) -> bool {
        covers(&self.serve, filter, who)
    }

    /// Whether the client may use the admin address's protected endpoints.
    pub const fn is_admin(&self) -> bool {
        self.admin
    }
}

#[inline]
fn covers(rights: &[Pattern], name: &str, who: Who<'_>) -> bool {
    rights.iter().any(|pattern| pattern.covers(name, who))
}

/// All configured roles.
#[derive(Debug)]
pub struct Roles {
    /// By name; the value is the index in `compiled`.
    names: HashMap<Box<str>, usize>,
    compiled: Vec<Rights>,
    none: Arc<Rights>,
    /// Cached unions, by the sorted indices of their roles. Only AUTH uses it, so a lock shared by
    /// the shards does no harm.
    unions: Mutex<HashMap<Box<[usize]>, Arc<Rights>>>,
}

impl Roles {
    /// # Errors
    /// The first invalid filter, with its role and list.
    pub fn new<'a>(
        roles: impl IntoIterator<Item = (&'a str, &'a Role)>,
    ) -> Result<Roles, RoleError> {
        let mut names = HashMap::new();
        let mut compiled = Vec::new();
        for (name, role) in roles {
            names.insert(name.into(), compiled.len());
            compiled.push(Rights::compile(name, role)?);
        }
        Ok(Roles {
            names,
            compiled,
            none: Arc::default(),
            unions: Mutex::default(),
        })
    }

    /// Whether a role has this name.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// The combined rights of the named roles. Unknown names grant nothing.
    pub fn rights(&self, names: &[impl AsRef<str>]) -> Arc<Rights> {
        let place = |name: &dyn AsRef<str>| self.names.get(name.as_ref()).copied();
        let mut places: Vec<usize> = names.iter().filter_map(|name| place(name)).collect();
        places.sort_unstable();
        places.dedup();
        if places.is_empty() {
            return Arc::clone(&self.none);
        }
        let mut unions = self.unions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rights) = unions.get(&*places) {
            return Arc::clone(rights);
        }
        // With more different sets than that, only recent unions stay cached.
        if unions.len() >= ROLE_SETS_MAX {
            unions.clear();
        }
        let rights = Rights::union(places.iter().filter_map(|place| self.compiled.get(*place)));
        let rights = Arc::new(rights);
        unions.insert(places.into(), Arc::clone(&rights));
        rights
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHO: Who<'_> = Who {
        principal: "d1",
        client_id: None,
    };

    fn filters(filters: &[&str]) -> Vec<String> {
        filters.iter().map(|filter| (*filter).to_owned()).collect()
    }

    fn role(publish: &[&str], subscribe: &[&str]) -> Role {
        Role {
            publish: filters(publish),
            subscribe: filters(subscribe),
            ..Role::default()
        }
    }

    #[test]
    fn empty_means_deny() {
        let empty = Role::default();
        let roles = Roles::new([("empty", &empty)]).expect("roles");
        let none = Roles::new([]).expect("roles");
        for rights in [
            roles.rights(&["empty"]),
            roles.rights(&["unknown"]),
            roles.rights(&[] as &[&str]),
            none.rights(&["admin", "#", ""]),
            Arc::default(),
        ] {
            for name in ["a", "#", "+", "$sys/echo", "a/b"] {
                assert!(!rights.may_publish(name, WHO));
                assert!(!rights.may_subscribe(name, WHO));
                assert!(!rights.may_request(name, WHO));
                assert!(!rights.may_serve(name, WHO));
            }
            assert!(!rights.is_admin());
        }
    }

    #[test]
    fn each_right_is_for_its_own_operation() {
        let lists: [fn(&mut Role) -> &mut Vec<String>; 4] = [
            |role| &mut role.publish,
            |role| &mut role.subscribe,
            |role| &mut role.request,
            |role| &mut role.serve,
        ];
        for (index, list) in lists.iter().enumerate() {
            let mut role = Role::default();
            list(&mut role).push("a/#".to_owned());
            let roles = Roles::new([("r", &role)]).expect("roles");
            let rights = roles.rights(&["r"]);
            let may = [
                rights.may_publish("a/b", WHO),
                rights.may_subscribe("a/b", WHO),
                rights.may_request("a/b", WHO),
                rights.may_serve("a/b", WHO),
            ];
            assert_eq!(may, std::array::from_fn(|at| at == index));
        }
    }

    #[test]
    fn a_subscription_wider_than_the_rights_is_refused() {
        let device = role(
            &["devices/{principal}/#"],
            &["devices/{principal}/#", "a/x", "a/y"],
        );
        let roles = Roles::new([("device", &device)]).expect("roles");
        let rights = roles.rights(&["device"]);
        for filter in [
            "#",
            "+/#",
            "devices/#",
            "devices/+/#",
            "devices/+",
            "devices/d2/#",
            "a/+",
        ] {
            assert!(!rights.may_subscribe(filter, WHO), "{filter}");
        }
        for filter in ["devices/d1/#", "devices/d1", "devices/d1/+/x", "a/x"] {
            assert!(rights.may_subscribe(filter, WHO), "{filter}");
        }
        assert!(rights.may_publish("devices/d1/state", WHO));
        assert!(!rights.may_publish("devices/d2/state", WHO));
    }

    #[test]
    fn roles_add_up_and_are_shared() {
        let [a, b] = [role(&["a/#"], &[]), role(&["b/#", "a/#"], &["b"])];
        let admin = Role {
            admin: true,
            ..Role::default()
        };
        let roles = Roles::new([("a", &a), ("b", &b), ("admin", &admin)]).expect("roles");
        let both = roles.rights(&["b", "a", "stranger", "a"]);
        assert!(both.may_publish("a/1", WHO) && both.may_publish("b/1", WHO));
        assert!(both.may_subscribe("b", WHO) && !both.is_admin());
        assert_eq!(both.publish.len(), 2, "none twice");
        assert!(Arc::ptr_eq(&both, &roles.rights(&["a", "b"])));
        assert!(!Arc::ptr_eq(&both, &roles.rights(&["a"])));
        assert!(roles.rights(&["admin", "a"]).is_admin());
        assert!(roles.contains("admin") && !roles.contains("Admin"));
    }

    #[test]
    fn a_mistaken_filter_is_named_with_its_role() {
        let bad = role(&["a"], &["b", "dev/{principle}/#"]);
        let error = Roles::new([("device", &bad)])
            .expect_err("refused")
            .to_string();
        assert!(
            error.starts_with("roles.device.subscribe has \"dev/{principle}/#\": "),
            "{error}"
        );
        assert!(error.contains("devices/{principal}/#"), "{error}");
    }

    #[test]
    fn sets_of_roles_are_kept_within_a_bound() {
        let names: Vec<String> = (0..12).map(|n| format!("r{n}")).collect();
        let some = role(&["a"], &[]);
        let roles = Roles::new(names.iter().map(|name| (&**name, &some))).expect("roles");
        for set in 1u32..1 << 12 {
            let chosen = names.iter().enumerate().filter(|(n, _)| set >> n & 1 == 1);
            let chosen: Vec<&String> = chosen.map(|(_, name)| name).collect();
            assert!(roles.rights(&chosen).may_publish("a", WHO));
        }
        assert!(roles.unions.lock().expect("lock").len() <= ROLE_SETS_MAX);
    }

    proptest! {
        #[test]
        fn together_roles_allow_what_one_of_them_allows(
            lists in prop::collection::vec(
                prop::collection::vec(prop::sample::select(&[
                    "a", "a/b", "a/+", "a/#", "+/b", "{principal}/#", "#", "$sys/#",
                ][..]), 0..4),
                1..4,
            ),
            name in prop::sample::select(&[
                "a", "a/b", "a/+", "a/#", "b/b", "d1", "d1/x", "d1/#", "#", "$sys/x", "$sys/#",
            ][..]),
        ) {
            let single: Vec<Role> = lists.iter().map(|list| role(list, &[])).collect();
            let names: Vec<String> = (0..single.len()).map(|n| n.to_string()).collect();
            let named = names.iter().map(String::as_str).zip(&single);
            let roles = Roles::new(named).expect("roles");
            let one = |name: &String| roles.rights(&[name]);
            let expected = names.iter().any(|role| one(role).may_publish(name, WHO));
            prop_assert_eq!(roles.rights(&names).may_publish(name, WHO), expected);
        }
    }
}
