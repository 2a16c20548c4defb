//! The attempts of `attempts.py`, each with what stops it.

use hearth_sandbox::Layer;
use hearth_sandbox::Layer::*;

pub struct Attempt {
    pub name: &'static str,
    /// Each of these alone stops it.
    pub stopped_by: &'static [Layer],
    /// These are in its way too, but alone would not stop it.
    pub beside: &'static [Layer],
    /// Entries of the setting `egress.allow` with which it gets out although every layer stands.
    pub let_out_by: &'static [&'static str],
}

const fn stopped(name: &'static str, stopped_by: &'static [Layer]) -> Attempt {
    Attempt { name, stopped_by, beside: &[], let_out_by: &[] }
}

const fn also(name: &'static str, stopped_by: &'static [Layer], beside: &'static [Layer]) -> Attempt {
    Attempt { name, stopped_by, beside, let_out_by: &[] }
}

const fn unless(name: &'static str, stopped_by: &'static [Layer], let_out_by: &'static [&'static str]) -> Attempt {
    Attempt { name, stopped_by, beside: &[], let_out_by }
}

/// Attempts at what some kernels do not have, which then cannot be reached without the filter either.
pub const MAY_BE_ABSENT: &[&str] = &["kernel_cryptography", "vsock", "terminal_input"];

pub const ATTEMPTS: &[Attempt] = &[
    // Files of the host.
    stopped("file_by_absolute_path", &[Root]),
    stopped("file_by_parents_of_the_root", &[Root]),
    stopped("file_by_parents_of_a_root_descriptor", &[Root]),
    stopped("file_by_own_root_in_proc", &[Root]),
    stopped("file_by_own_thread_root_in_proc", &[Root]),
    stopped("file_by_own_directory_in_proc", &[Root]),
    stopped("file_by_root_of_init", &[Root, Privileges, Gaining, Walls]),
    stopped("file_by_directory_of_init", &[Root, Privileges, Gaining, Walls]),
    stopped("file_by_root_of_a_host_process", &[Pids, Users, Privileges, Gaining, Walls]),
    stopped("file_by_namespace_of_a_host_process", &[Filter, Pids, Users, Privileges, Gaining, Walls]),
    stopped("file_by_link_in_the_package", &[Root]),
    stopped("file_by_link_in_tmp", &[Root]),
    stopped("file_by_hard_link", &[Root, Users, Privileges, Walls]),
    stopped("file_by_inherited_descriptor", &[Descriptors, Walls]),
    stopped("file_by_working_directory", &[Descriptors, Walls]),
    stopped("file_by_descriptor_of_init", &[Privileges, Gaining, Walls]),
    stopped("file_by_handle", &[Filter, Users, Privileges, Gaining]),
    stopped("program_of_init", &[Privileges, Gaining, Walls]),
    stopped("mapped_files_of_init", &[Users, Privileges, Gaining, Walls]),
    stopped("memory_of_init", &[Privileges, Gaining, Walls]),
    stopped("environment_of_init", &[Privileges, Gaining, Walls]),
    stopped("shared_memory_folder", &[Root]),
    // Devices and mounts.
    stopped("device_node", &[Filter, Users, Privileges, Gaining, Seal]),
    stopped("devices_are_replaced", &[Privileges, Seal]),
    stopped("consoles_are_there", &[Root]),
    stopped("mount_a_tmpfs", &[Filter, Privileges, Gaining, Walls]),
    stopped("mount_by_descriptor", &[Filter, Privileges, Gaining]),
    stopped("unmount_what_covers_proc", &[Filter, Privileges, Gaining, Walls]),
    stopped("remount_root_writable", &[Filter, Privileges, Gaining, Walls]),
    stopped("write_to_the_package", &[Privileges, Seal, Walls]),
    stopped("set_user_id_program", &[Filter, Gaining, Seal, Walls]),
    // /proc, /sys and control groups.
    stopped("write_core_pattern", &[Proc, Users, Privileges]),
    stopped("write_setting_of_the_network", &[Proc, Privileges, Gaining]),
    stopped("write_to_own_proc", &[Proc]),
    stopped("read_what_proc_covers", &[Proc]),
    stopped("see_init_in_proc", &[Proc]),
    stopped("system_folder_is_there", &[Root]),
    stopped("join_a_control_group", &[Root, Users, Privileges, Walls]),
    stopped("mount_control_groups", &[Filter, Privileges, Gaining, Walls]),
    // Neighbours.
    stopped("see_a_neighbour_in_proc", &[Pids]),
    stopped("signal_a_neighbour", &[Pids, Users, Walls]),
    stopped("signal_init", &[Privileges, Walls]),
    also("trace_a_neighbour", &[Filter, Pids, Users, Walls], &[Privileges, Gaining]),
    stopped("trace_init", &[Filter, Privileges, Gaining, Walls]),
    also("read_memory_of_a_neighbour", &[Filter, Pids, Users, Walls], &[Privileges, Gaining]),
    stopped("take_a_descriptor_of_init", &[Filter, Privileges, Gaining, Walls]),
    stopped("shared_memory_of_system_v", &[Filter, Ipc]),
    stopped("abstract_socket", &[Network, Walls]),
    stopped("port_on_the_hosts_loopback", &[Network]),
    unless("metadata_address", &[Network], &["169.254.169.254"]),
    unless("metadata_address_by_datagram", &[Network], &["169.254.169.254"]),
    unless("address_of_the_host", &[Network], &["203.0.113.77"]),
    stopped("keyring", &[Filter]),
    // The kernel's surface.
    stopped("raw_socket", &[Filter, Privileges, Gaining]),
    stopped("packet_socket", &[Filter, Privileges, Gaining]),
    stopped("netlink_kobject_uevent", &[Filter]),
    stopped("netlink_netfilter", &[Filter]),
    stopped("vsock", &[Filter]),
    stopped("kernel_cryptography", &[Filter]),
    stopped("other_socket_families", &[Filter]),
    stopped("user_namespace", &[Filter]),
    stopped("namespace_by_clone", &[Filter]),
    stopped("namespace_by_clone3", &[Filter]),
    stopped("personality", &[Filter]),
    stopped("io_uring", &[Filter]),
    also("bpf_map", &[Filter], &[Users, Privileges, Gaining]),
    also("performance_counter", &[Filter], &[Users, Privileges, Gaining]),
    stopped("fault_handling_in_user_space", &[Filter]),
    stopped("huge_pages", &[Filter]),
    stopped("page_merging", &[Filter]),
    stopped("residency_of_a_shared_file", &[Filter]),
    stopped("residency_by_reading_without_waiting", &[Filter]),
    stopped("upper_protocol_of_tcp", &[Filter]),
    stopped("multicast_membership", &[Filter]),
    stopped("netfilter_option", &[Filter]),
    stopped("filter_on_a_socket", &[Filter]),
    stopped("out_of_band_data_on_a_local_socket", &[Filter]),
    stopped("terminal_input", &[Filter]),
    stopped("core_dump", &[Core]),
    stopped("limit_of_core_files", &[Filter]),
];
