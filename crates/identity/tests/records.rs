//! Roles and managed policies over any sequence of changes, by one server and by several that share the records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hearth_identity::{Identity, Ports, RoleArn};
use hearth_model::SystemClock;
use hearth_policy::Facts;
use hearth_store::{MemoryRecords, Records};
use hearth_wire::{Context, Error};
use hearth_wire_iam::types::*;
use hearth_wire_iam::{PoliciesApi, RolePoliciesApi, RolesApi};
use proptest::prelude::*;

const ACCOUNT: &str = "123456789012";
const DOCUMENT: &str = r#"{"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}"#;
const BASIC: &str = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";

fn trusting(service: &str) -> String {
    let principal = format!(r#"{{"Service": "{service}"}}"#);
    format!(r#"{{"Statement": [{{"Effect": "Allow", "Principal": {principal}, "Action": "sts:AssumeRole"}}]}}"#)
}

fn cx() -> Context {
    Context::new(ACCOUNT, "us-east-1", "r", "localhost", None)
}

async fn open(records: &Arc<MemoryRecords>) -> Identity {
    let records: Arc<dyn Records> = records.clone();
    Identity::open(Ports { records, clock: Arc::new(SystemClock) }).await.unwrap()
}

fn policy_arn(name: &str) -> String {
    if name == "aws" { BASIC.to_owned() } else { format!("arn:aws:iam::{ACCOUNT}:policy/{name}") }
}

/// One change. Names are few, so that changes meet.
#[derive(Clone, Debug)]
enum Step {
    CreateRole(&'static str, Option<&'static str>),
    DeleteRole(&'static str),
    CreatePolicy(&'static str),
    DeletePolicy(&'static str),
    Attach(&'static str, &'static str),
    Detach(&'static str, &'static str),
}

async fn take(identity: &Identity, step: Step) -> Result<(), Error> {
    let (cx, text) = (&cx(), |text: &str| Some(text.to_owned()));
    match step {
        Step::CreateRole(name, boundary) => {
            let input = CreateRoleRequest {
                role_name: text(name),
                assume_role_policy_document: Some(trusting("lambda.amazonaws.com")),
                permissions_boundary: boundary.map(policy_arn),
                ..CreateRoleRequest::default()
            };
            identity.create_role(cx, input).await.map(drop)
        }
        Step::DeleteRole(name) => identity.delete_role(cx, DeleteRoleRequest { role_name: text(name) }).await,
        Step::CreatePolicy(name) => {
            let input = CreatePolicyRequest {
                policy_name: text(name),
                policy_document: text(DOCUMENT),
                ..CreatePolicyRequest::default()
            };
            identity.create_policy(cx, input).await.map(drop)
        }
        Step::DeletePolicy(name) => {
            identity.delete_policy(cx, DeletePolicyRequest { policy_arn: Some(policy_arn(name)) }).await
        }
        Step::Attach(role, policy) => {
            let input = AttachRolePolicyRequest { role_name: text(role), policy_arn: Some(policy_arn(policy)) };
            identity.attach_role_policy(cx, input).await
        }
        Step::Detach(role, policy) => {
            let input = DetachRolePolicyRequest { role_name: text(role), policy_arn: Some(policy_arn(policy)) };
            identity.detach_role_policy(cx, input).await
        }
    }
}

/// Role and policy of every attachment, as roles tell it; and of every boundary.
type Held = (BTreeSet<(String, String)>, BTreeSet<(String, String)>);

async fn held_by_roles(identity: &Identity) -> Held {
    let (mut attached, mut bounds) = Held::default();
    let listed = identity.list_roles(&cx(), ListRolesRequest::default()).await.ok().unwrap();
    for role in listed.roles.unwrap() {
        let name = role.role_name.unwrap();
        let input = ListAttachedRolePoliciesRequest { role_name: Some(name.clone()), ..Default::default() };
        let policies =
            identity.list_attached_role_policies(&cx(), input).await.ok().unwrap().attached_policies.unwrap();
        attached.extend(policies.into_iter().map(|policy| (name.clone(), policy.policy_arn.unwrap())));
        let got = identity.get_role(&cx(), GetRoleRequest { role_name: Some(name.clone()) }).await.ok().unwrap();
        let boundary = got.role.unwrap().permissions_boundary.and_then(|boundary| boundary.permissions_boundary_arn);
        bounds.extend(boundary.map(|arn| (name, arn)));
    }
    (attached, bounds)
}

/// The same, as policies tell it.
async fn held_of_policies(identity: &Identity) -> Held {
    let (mut attached, mut bounds) = Held::default();
    let listed = identity.list_policies(&cx(), ListPoliciesRequest::default()).await.ok().unwrap();
    for policy in listed.policies.unwrap() {
        let arn = policy.arn.unwrap();
        let count = |count: Option<i64>| usize::try_from(count.unwrap()).unwrap();
        let counts = [count(policy.attachment_count), count(policy.permissions_boundary_usage_count)];
        for (usage, found, counted) in
            [("PermissionsPolicy", &mut attached, counts[0]), ("PermissionsBoundary", &mut bounds, counts[1])]
        {
            let input = ListEntitiesForPolicyRequest {
                policy_arn: Some(arn.clone()),
                policy_usage_filter: Some(usage.to_owned()),
                ..Default::default()
            };
            let entities = identity.list_entities_for_policy(&cx(), input).await.ok().unwrap();
            let roles = entities.policy_roles.unwrap();
            assert_eq!(roles.len(), counted);
            found.extend(roles.into_iter().map(|role| (role.role_name.unwrap(), arn.clone())));
        }
    }
    (attached, bounds)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let role = || prop::sample::select(vec!["r1", "r2", "r3"]);
    let policy = || prop::sample::select(vec!["p1", "p2", "aws"]);
    let own = || prop::sample::select(vec!["p1", "p2"]);
    let step = prop_oneof![
        (role(), prop::option::of(policy())).prop_map(|(role, policy)| Step::CreateRole(role, policy)),
        role().prop_map(Step::DeleteRole),
        own().prop_map(Step::CreatePolicy),
        own().prop_map(Step::DeletePolicy),
        (role(), policy()).prop_map(|(role, policy)| Step::Attach(role, policy)),
        (role(), policy()).prop_map(|(role, policy)| Step::Attach(role, policy)),
        (role(), policy()).prop_map(|(role, policy)| Step::Detach(role, policy)),
    ];
    prop::collection::vec(step, 1..60)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is refused changes nothing, and what roles have is what policies say that they have.
    #[test]
    fn roles_and_policies_agree(steps in steps()) {
        run(async {
            let identity = open(&Arc::new(MemoryRecords::default())).await;
            let (mut roles, mut policies) = (BTreeMap::new(), BTreeSet::new());
            for step in steps {
                let taken = take(&identity, step.clone()).await.is_ok();
                let expected = match step {
                    Step::CreateRole(name, boundary) => {
                        let known = boundary.is_none_or(|policy| policy == "aws" || policies.contains(policy));
                        let made = known && !roles.contains_key(name);
                        if made {
                            roles.insert(name, (boundary, BTreeSet::new()));
                        }
                        made
                    }
                    Step::DeleteRole(name) => {
                        let free = roles.get(name).is_some_and(|(_, attached)| attached.is_empty());
                        free && roles.remove(name).is_some()
                    }
                    Step::CreatePolicy(name) => policies.insert(name),
                    Step::DeletePolicy(name) => {
                        let has = |(boundary, attached): &(Option<&str>, BTreeSet<&str>)| {
                            *boundary == Some(name) || attached.contains(name)
                        };
                        !roles.values().any(has) && policies.remove(name)
                    }
                    Step::Attach(role, policy) => {
                        let known = policy == "aws" || policies.contains(policy);
                        let role = roles.get_mut(role).filter(|_| known);
                        role.is_some_and(|(_, attached)| {
                            attached.insert(policy);
                            true
                        })
                    }
                    Step::Detach(role, policy) => {
                        roles.get_mut(role).is_some_and(|(_, attached)| attached.remove(policy))
                    }
                };
                assert_eq!(taken, expected);
            }
            let (by_roles, of_policies) = (held_by_roles(&identity).await, held_of_policies(&identity).await);
            let attached = roles.iter().flat_map(|(role, (_, attached))| {
                attached.iter().map(|policy| ((*role).to_owned(), policy_arn(policy)))
            });
            assert_eq!(by_roles.0, attached.collect());
            assert_eq!(by_roles, of_policies);
        });
    }

    /// Of servers that share the records, none undoes what another has done: who comes too late is told so.
    #[test]
    fn servers_that_share_records_agree(one in steps(), other in steps()) {
        run(async {
            let records = Arc::new(MemoryRecords::default());
            let (first, second) = (open(&records).await, open(&records).await);
            let all = |identity: Identity, steps: Vec<Step>| tokio::spawn(async move {
                for step in steps {
                    let _ = take(&identity, step).await;
                }
            });
            let (one, other) = (all(first.clone(), one), all(second, other));
            one.await.unwrap();
            other.await.unwrap();
            assert_eq!(held_by_roles(&first).await, held_of_policies(&first).await);
        });
    }
}

#[test]
fn servers_that_share_records_recognise_each_others_sessions() {
    run(async {
        let records = Arc::new(MemoryRecords::default());
        let (first, second) = tokio::join!(open(&records), open(&records));
        let account = hearth_model::AccountId::parse(ACCOUNT).unwrap();
        let name = hearth_model::FunctionName::parse("f").unwrap();
        let role = "arn:aws:iam::123456789012:role/r";
        let credentials = first.sessions().of_function(&account, role, &name);
        let session = second.sessions().open(&credentials.access_key, credentials.token.reveal());
        assert_eq!(session.unwrap().unwrap().role.unwrap().role, role);
    });
}

#[test]
fn a_role_is_assumed_by_the_services_that_it_trusts() {
    run(async {
        let identity = open(&Arc::new(MemoryRecords::default())).await;
        take(&identity, Step::CreateRole("r", None)).await.ok().unwrap();
        let asked = async |role: &str, service: &str| {
            let role = RoleArn::parse(role).unwrap();
            identity.lets_service_assume(&role, service, Facts::default()).await.ok().unwrap()
        };
        assert!(asked("arn:aws:iam::123456789012:role/r", "lambda.amazonaws.com").await);
        assert!(!asked("arn:aws:iam::123456789012:role/r", "ec2.amazonaws.com").await);
        assert!(!asked("arn:aws:iam::123456789012:role/x/r", "lambda.amazonaws.com").await, "another path");
        assert!(!asked("arn:aws:iam::999999999999:role/r", "lambda.amazonaws.com").await, "another account");
    });
}
