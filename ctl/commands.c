/* The only list of commands and of their options (style: one table). Options stand in the order of
 * their names, as docker prints them; a unit test checks that. */
#include "ctl/cmd.h"

#include <string.h>

#define STR(name, letter, value, dflt, help, choices)                                              \
    {                                                                                              \
        name, letter, FLAG_STRING, value, dflt, help, choices, false                               \
    }
#define LIST(name, letter, value, help, choices)                                                   \
    {                                                                                              \
        name, letter, FLAG_LIST, value, NULL, help, choices, false                                 \
    }
#define BOOL(name, letter, help)                                                                   \
    {                                                                                              \
        name, letter, FLAG_BOOL, NULL, NULL, help, NULL, false                                     \
    }
#define OPT(name, kind, dflt, help)                                                                \
    {                                                                                              \
        name, 0, kind, NULL, dflt, help, NULL, false                                               \
    }
#define HIDDEN(name, kind)                                                                         \
    {                                                                                              \
        name, 0, kind, NULL, NULL, "", NULL, true                                                  \
    }
#define END                                                                                        \
    {                                                                                              \
        0                                                                                          \
    }

#define NS_UNITS "(ns|us|ms|s|m|h)"
#define MS_UNITS "(ms|s|m|h)"

/* clang-format off */
static const struct flag global_flags[] = {
    { "help", 'h', FLAG_BOOL, NULL, NULL, "Print usage", NULL, true },
    STR("host", 'H', NULL, "unix:///run/skep/control.sock",
        "Manager to talk to: unix:///PATH or HOST[:PORT], with mutual TLS (SKEP_HOST)", NULL),
    STR("identity", 0, "dir", "/var/lib/skep/identity",
        "Certificate and key for a remote manager (SKEP_IDENTITY)", "@dir"),
    STR("log-level", 'l', NULL, "warn", "Set the logging level (\"debug\", \"info\", \"warn\", \"error\")",
        "debug|info|warn|error"),
    OPT("timeout", FLAG_DURATION, "20s", "Longest wait for an answer of a manager"),
    BOOL("version", 'v', "Print version information and quit"),
    END,
};

static const struct flag no_flags[] = { END };

#define FLAG_STALE                                                                                 \
    BOOL("stale", 0, "Show what this manager has, without asking a majority (when there is none)")

static const struct flag cluster_backup_flags[] = {
    BOOL("stale", 0, "Save what this manager has, without asking a majority (when there is none)"),
    END,
};

/* ---- service ---- */

#define FLAGS_HEALTH                                                                               \
    STR("health-cmd", 0, NULL, NULL, "Command to run to check health", NULL),                      \
    OPT("health-interval", FLAG_DURATION, NULL, "Time between running the check " MS_UNITS),       \
    OPT("health-retries", FLAG_U64, NULL, "Consecutive failures needed to report unhealthy"),      \
    OPT("health-start-interval", FLAG_DURATION, NULL,                                              \
        "Time between running the check during the start period " MS_UNITS),                       \
    OPT("health-start-period", FLAG_DURATION, NULL,                                                \
        "Start period for the container to initialize before counting retries towards unstable "   \
        MS_UNITS),                                                                                 \
    OPT("health-timeout", FLAG_DURATION, NULL, "Maximum time to allow one check to run " MS_UNITS)

#define FLAGS_LIMIT_LOG                                                                            \
    OPT("limit-cpu", FLAG_CPUS, NULL, "Limit CPUs"),                                               \
    OPT("limit-memory", FLAG_BYTES, NULL, "Limit Memory"),                                         \
    OPT("limit-pids", FLAG_I64, NULL, "Limit maximum number of processes (default 0 = unlimited)"), \
    STR("log-driver", 0, NULL, NULL, "Logging driver for service",                                 \
        "none|local|json-file|syslog|journald|gelf|fluentd|awslogs|splunk"),                       \
    LIST("log-opt", 0, NULL, "Logging driver options", NULL),                                      \
    OPT("max-concurrent", FLAG_U64, NULL,                                                          \
        "Number of job tasks to run concurrently (default equal to --replicas)")

#define FLAGS_RESERVE_RESTART                                                                      \
    OPT("reserve-cpu", FLAG_CPUS, NULL, "Reserve CPUs"),                                           \
    OPT("reserve-memory", FLAG_BYTES, NULL, "Reserve Memory"),                                     \
    STR("restart-condition", 0, NULL, NULL,                                                        \
        "Restart when condition is met (\"none\", \"on-failure\", \"any\") (default \"any\")",     \
        "none|on-failure|any"),                                                                    \
    OPT("restart-delay", FLAG_DURATION, NULL,                                                      \
        "Delay between restart attempts " NS_UNITS " (default 5s)"),                               \
    OPT("restart-max-attempts", FLAG_U64, NULL, "Maximum number of restarts before giving up"),    \
    OPT("restart-window", FLAG_DURATION, NULL,                                                     \
        "Window used to evaluate the restart policy " NS_UNITS)

#define FLAGS_ROLLBACK                                                                             \
    OPT("rollback-delay", FLAG_DURATION, NULL,                                                     \
        "Delay between task rollbacks " NS_UNITS " (default 0s)"),                                 \
    STR("rollback-failure-action", 0, NULL, NULL,                                                  \
        "Action on rollback failure (\"pause\", \"continue\") (default \"pause\")",                \
        "pause|continue"),                                                                         \
    OPT("rollback-max-failure-ratio", FLAG_RATIO, NULL,                                            \
        "Failure rate to tolerate during a rollback (default 0)"),                                 \
    OPT("rollback-monitor", FLAG_DURATION, NULL,                                                   \
        "Duration after each task rollback to monitor for failure " NS_UNITS " (default 5s)"),     \
    STR("rollback-order", 0, NULL, NULL,                                                           \
        "Rollback order (\"start-first\", \"stop-first\") (default \"stop-first\")",               \
        "start-first|stop-first"),                                                                 \
    OPT("rollback-parallelism", FLAG_U64, NULL,                                                    \
        "Maximum number of tasks rolled back simultaneously (0 to roll back all at once) "         \
        "(default 1)")

#define FLAGS_UPDATE                                                                               \
    OPT("update-delay", FLAG_DURATION, NULL,                                                       \
        "Delay between updates " NS_UNITS " (default 0s)"),                                        \
    STR("update-failure-action", 0, NULL, NULL,                                                    \
        "Action on update failure (\"pause\", \"continue\", \"rollback\") (default \"pause\")",    \
        "pause|continue|rollback"),                                                                \
    OPT("update-max-failure-ratio", FLAG_RATIO, NULL,                                              \
        "Failure rate to tolerate during an update (default 0)"),                                  \
    OPT("update-monitor", FLAG_DURATION, NULL,                                                     \
        "Duration after each task update to monitor for failure " NS_UNITS " (default 5s)"),       \
    STR("update-order", 0, NULL, NULL,                                                             \
        "Update order (\"start-first\", \"stop-first\") (default \"stop-first\")",                 \
        "start-first|stop-first"),                                                                 \
    OPT("update-parallelism", FLAG_U64, NULL,                                                      \
        "Maximum number of tasks updated simultaneously (0 to update all at once) (default 1)"),   \
    STR("user", 'u', NULL, NULL, "Username or UID (format: <name|uid>[:<group|gid>])", NULL),      \
    OPT("wait-timeout", FLAG_DURATION, NULL,                                                       \
        "Stop waiting for the service to converge after this time, exit with 1 " NS_UNITS),        \
    BOOL("with-registry-auth", 0, "Send registry authentication details to swarm agents"),         \
    STR("workdir", 'w', NULL, NULL, "Working directory inside the container", NULL)

#define FLAG_DETACH                                                                                \
    BOOL("detach", 'd', "Exit immediately instead of waiting for the service to converge")
#define FLAG_QUIET BOOL("quiet", 'q', "Suppress progress output")
#define FLAG_WAIT                                                                                  \
    OPT("wait-timeout", FLAG_DURATION, NULL,                                                       \
        "Stop waiting for the service to converge after this time, exit with 1 " NS_UNITS)
#define FLAG_FORMAT(what)                                                                          \
    STR("format", 0, NULL, NULL,                                                                   \
        "Format output using a custom template: 'table' (default), 'table TEMPLATE', 'json' or a " \
        "Go template" what, "table|json")

static const struct flag service_create_flags[] = {
    LIST("cap-add", 0, NULL, "Add Linux capabilities", NULL),
    LIST("cap-drop", 0, NULL, "Drop Linux capabilities", NULL),
    LIST("config", 0, "config", "Specify configurations to expose to the service", "@config"),
    LIST("constraint", 0, NULL, "Placement constraints", NULL),
    LIST("container-label", 0, NULL, "Container labels", NULL),
    FLAG_DETACH,
    LIST("dns", 0, NULL, "Set custom DNS servers", NULL),
    LIST("dns-option", 0, NULL, "Set DNS options", NULL),
    LIST("dns-search", 0, NULL, "Set custom DNS search domains", NULL),
    STR("endpoint-mode", 0, NULL, "vip", "Endpoint mode (vip or dnsrr)", "vip|dnsrr"),
    STR("entrypoint", 0, "command", NULL, "Overwrite the default ENTRYPOINT of the image", NULL),
    LIST("env", 'e', NULL, "Set environment variables", NULL),
    LIST("env-file", 0, NULL, "Read in a file of environment variables", "@file"),
    LIST("group", 0, NULL, "Set one or more supplementary user groups for the container", NULL),
    FLAGS_HEALTH,
    LIST("host", 0, NULL, "Set one or more custom host-to-IP mappings (host:ip)", NULL),
    STR("hostname", 0, NULL, NULL, "Container hostname", NULL),
    BOOL("init", 0, "Use an init inside each service container to forward signals and reap processes"),
    LIST("label", 'l', NULL, "Service labels", NULL),
    FLAGS_LIMIT_LOG,
    STR("mode", 0, NULL, "replicated",
        "Service mode (\"replicated\", \"global\", \"replicated-job\", \"global-job\")",
        "replicated|global|replicated-job|global-job"),
    LIST("mount", 0, "mount", "Attach a filesystem mount to the service", NULL),
    STR("name", 0, NULL, NULL, "Service name", NULL),
    LIST("network", 0, "network", "Network attachments", "@network"),
    BOOL("no-healthcheck", 0, "Disable any container-specified HEALTHCHECK"),
    HIDDEN("no-resolve-image", FLAG_BOOL),
    LIST("placement-pref", 0, "pref", "Add a placement preference", NULL),
    LIST("publish", 'p', "port", "Publish a port as a node port", NULL),
    FLAG_QUIET,
    BOOL("read-only", 0, "Mount the container's root filesystem as read only"),
    OPT("replicas", FLAG_U64, NULL, "Number of tasks"),
    OPT("replicas-max-per-node", FLAG_U64, NULL, "Maximum number of tasks per node (default 0 = unlimited)"),
    FLAGS_RESERVE_RESTART,
    FLAGS_ROLLBACK,
    LIST("secret", 0, "secret", "Specify secrets to expose to the service", "@secret"),
    OPT("stop-grace-period", FLAG_DURATION, NULL,
        "Time to wait before force killing a container " NS_UNITS " (default 10s)"),
    STR("stop-signal", 0, NULL, NULL, "Signal to stop the container", NULL),
    LIST("sysctl", 0, NULL, "Sysctl options", NULL),
    BOOL("tty", 't', "Allocate a pseudo-TTY"),
    LIST("ulimit", 0, "ulimit", "Ulimit options", NULL),
    FLAGS_UPDATE,
    END,
};

static const struct flag service_update_flags[] = {
    STR("args", 0, "command", NULL, "Service command args", NULL),
    LIST("cap-add", 0, NULL, "Add Linux capabilities", NULL),
    LIST("cap-drop", 0, NULL, "Drop Linux capabilities", NULL),
    LIST("config-add", 0, "config", "Add or update a config file on a service", "@config"),
    LIST("config-rm", 0, NULL, "Remove a configuration file", NULL),
    LIST("constraint-add", 0, NULL, "Add or update a placement constraint", NULL),
    LIST("constraint-rm", 0, NULL, "Remove a constraint", NULL),
    LIST("container-label-add", 0, NULL, "Add or update a container label", NULL),
    LIST("container-label-rm", 0, NULL, "Remove a container label by its key", NULL),
    FLAG_DETACH,
    LIST("dns-add", 0, NULL, "Add or update a custom DNS server", NULL),
    LIST("dns-option-add", 0, NULL, "Add or update a DNS option", NULL),
    LIST("dns-option-rm", 0, NULL, "Remove a DNS option", NULL),
    LIST("dns-rm", 0, NULL, "Remove a custom DNS server", NULL),
    LIST("dns-search-add", 0, NULL, "Add or update a custom DNS search domain", NULL),
    LIST("dns-search-rm", 0, NULL, "Remove a DNS search domain", NULL),
    STR("endpoint-mode", 0, NULL, NULL, "Endpoint mode (vip or dnsrr)", "vip|dnsrr"),
    STR("entrypoint", 0, "command", NULL, "Overwrite the default ENTRYPOINT of the image", NULL),
    LIST("env-add", 0, NULL, "Add or update an environment variable", NULL),
    LIST("env-rm", 0, NULL, "Remove an environment variable", NULL),
    BOOL("force", 0, "Force update even if no changes require it"),
    LIST("group-add", 0, NULL, "Add an additional supplementary user group to the container", NULL),
    LIST("group-rm", 0, NULL, "Remove a previously added supplementary user group from the container", NULL),
    FLAGS_HEALTH,
    LIST("host-add", 0, NULL, "Add a custom host-to-IP mapping (\"host:ip\")", NULL),
    LIST("host-rm", 0, NULL, "Remove a custom host-to-IP mapping (\"host:ip\")", NULL),
    STR("hostname", 0, NULL, NULL, "Container hostname", NULL),
    STR("image", 0, NULL, NULL, "Service image tag", NULL),
    BOOL("init", 0, "Use an init inside each service container to forward signals and reap processes"),
    LIST("label-add", 0, NULL, "Add or update a service label", NULL),
    LIST("label-rm", 0, NULL, "Remove a label by its key", NULL),
    FLAGS_LIMIT_LOG,
    LIST("mount-add", 0, "mount", "Add or update a mount on a service", NULL),
    LIST("mount-rm", 0, NULL, "Remove a mount by its target path", NULL),
    LIST("network-add", 0, "network", "Add a network", "@network"),
    LIST("network-rm", 0, NULL, "Remove a network", "@network"),
    BOOL("no-healthcheck", 0, "Disable any container-specified HEALTHCHECK"),
    HIDDEN("no-resolve-image", FLAG_BOOL),
    LIST("placement-pref-add", 0, "pref", "Add a placement preference", NULL),
    LIST("placement-pref-rm", 0, "pref", "Remove a placement preference", NULL),
    LIST("publish-add", 0, "port", "Add or update a published port", NULL),
    LIST("publish-rm", 0, "port", "Remove a published port by its target port", NULL),
    FLAG_QUIET,
    BOOL("read-only", 0, "Mount the container's root filesystem as read only"),
    OPT("replicas", FLAG_U64, NULL, "Number of tasks"),
    OPT("replicas-max-per-node", FLAG_U64, NULL, "Maximum number of tasks per node (default 0 = unlimited)"),
    FLAGS_RESERVE_RESTART,
    BOOL("rollback", 0, "Rollback to previous specification"),
    FLAGS_ROLLBACK,
    LIST("secret-add", 0, "secret", "Add or update a secret on a service", "@secret"),
    LIST("secret-rm", 0, NULL, "Remove a secret", "@secret"),
    OPT("stop-grace-period", FLAG_DURATION, NULL, "Time to wait before force killing a container " NS_UNITS),
    STR("stop-signal", 0, NULL, NULL, "Signal to stop the container", NULL),
    LIST("sysctl-add", 0, NULL, "Add or update a Sysctl option", NULL),
    LIST("sysctl-rm", 0, NULL, "Remove a Sysctl option", NULL),
    BOOL("tty", 't', "Allocate a pseudo-TTY"),
    LIST("ulimit-add", 0, "ulimit", "Add or update a ulimit option", NULL),
    LIST("ulimit-rm", 0, NULL, "Remove a ulimit option", NULL),
    FLAGS_UPDATE,
    END,
};

static const struct flag progress_flags[] = { FLAG_DETACH, FLAG_WAIT, END };
static const struct flag rollback_flags[] = { FLAG_DETACH, FLAG_QUIET, FLAG_WAIT, END };

static const struct flag ls_flags[] = {
    LIST("filter", 'f', "filter", "Filter output based on conditions provided", NULL),
    FLAG_FORMAT(""),
    BOOL("quiet", 'q', "Only display IDs"),
    FLAG_STALE,
    END,
};

static const struct flag ps_flags[] = {
    LIST("filter", 'f', "filter", "Filter output based on conditions provided", NULL),
    FLAG_FORMAT(""),
    BOOL("no-resolve", 0, "Do not map IDs to Names"),
    BOOL("no-trunc", 0, "Do not truncate output"),
    BOOL("quiet", 'q', "Only display task IDs"),
    FLAG_STALE,
    END,
};

static const struct flag inspect_flags[] = {
    STR("format", 'f', NULL, NULL, "Format output using a custom template: 'json' or a Go template", "json"),
    BOOL("pretty", 0, "Print the information in a human friendly format"),
    FLAG_STALE,
    END,
};

static const struct flag task_inspect_flags[] = {
    STR("format", 'f', NULL, NULL, "Format output using a custom template: 'json' or a Go template", "json"),
    FLAG_STALE,
    END,
};

static const struct flag logs_flags[] = {
    BOOL("details", 0, "Show extra details provided to logs"),
    BOOL("follow", 'f', "Follow log output"),
    BOOL("no-resolve", 0, "Do not map IDs to Names in output"),
    BOOL("no-task-ids", 0, "Do not include task IDs in output"),
    BOOL("no-trunc", 0, "Do not truncate output"),
    BOOL("raw", 0, "Do not neatly format logs"),
    STR("since", 0, NULL, NULL,
        "Show logs since timestamp (e.g. \"2026-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)", NULL),
    STR("tail", 'n', NULL, "all", "Number of lines to show from the end of the logs", "all"),
    BOOL("timestamps", 't', "Show timestamps"),
    END,
};

/* ---- network ---- */

static const struct flag network_create_flags[] = {
    BOOL("attachable", 0, "Enable manual container attachment"),
    LIST("aux-address", 0, "name=address", "Addresses that are in use already and never given out", NULL),
    STR("config-from", 0, NULL, NULL, "The network from which to copy the configuration", "@network"),
    BOOL("config-only", 0, "Create a configuration only network"),
    STR("driver", 'd', NULL, "overlay", "Driver to manage the Network", "overlay|bridge|macvlan|ipvlan"),
    LIST("gateway", 0, "address", "IPv4 or IPv6 Gateway for the subnet", NULL),
    BOOL("ingress", 0, "Create swarm routing-mesh network"),
    BOOL("internal", 0, "Restrict external access to the network"),
    LIST("ip-range", 0, "subnet", "Allocate container ip from a sub-range", NULL),
    STR("ipam-driver", 0, NULL, "default", "IP Address Management Driver", "default"),
    BOOL("ipv6", 0, "Enable IPv6 networking"),
    LIST("label", 0, NULL, "Set metadata on a network", NULL),
    LIST("opt", 'o', NULL, "Set driver specific options (\"encrypted\", \"com.docker.network.driver.mtu=1400\")", NULL),
    STR("scope", 0, NULL, NULL, "Control the network's scope", "swarm|local"),
    LIST("subnet", 0, "subnet", "Subnet in CIDR format that represents a network segment", NULL),
    END,
};

static const struct flag network_ls_flags[] = {
    LIST("filter", 'f', "filter", "Provide filter values (e.g. \"driver=bridge\")", NULL),
    FLAG_FORMAT(""),
    BOOL("no-trunc", 0, "Do not truncate the output"),
    BOOL("quiet", 'q', "Only display network IDs"),
    FLAG_STALE,
    END,
};

static const struct flag network_inspect_flags[] = {
    STR("format", 'f', NULL, NULL, "Format output using a custom template: 'json' or a Go template", "json"),
    FLAG_STALE,
    BOOL("verbose", 'v', "Show services, virtual addresses and endpoints"),
    END,
};

static const struct flag network_rm_flags[] = {
    BOOL("force", 'f', "Do not error if the network does not exist, do not ask"),
    END,
};

static const struct flag network_prune_flags[] = {
    LIST("filter", 0, "filter", "Provide filter values (e.g. \"label=<key>=<value>\")", NULL),
    BOOL("force", 'f', "Do not prompt for confirmation"),
    END,
};

/* ---- node, swarm, the rest ---- */

#define AVAILABILITY "active|pause|drain"

static const struct flag node_update_flags[] = {
    STR("availability", 0, NULL, NULL, "Availability of the node (\"active\", \"pause\", \"drain\")", AVAILABILITY),
    LIST("label-add", 0, NULL, "Add or update a node label (\"key=value\")", NULL),
    LIST("label-rm", 0, NULL, "Remove a node label if exists", NULL),
    STR("role", 0, NULL, NULL, "Role of the node (\"worker\", \"manager\")", "worker|manager"),
    END,
};

static const struct flag force_flags[] = {
    BOOL("force", 'f', "Force remove a node from the swarm"),
    END,
};

#define FLAGS_CLUSTER                                                                              \
    OPT("snapshot-interval", FLAG_U64, NULL,                                                       \
        "Number of log entries between Raft snapshots (default 10000)"),                           \
    OPT("task-history-limit", FLAG_I64, NULL, "Task history retention limit (default 5)")
#define FLAG_CERT_EXPIRY                                                                           \
    OPT("cert-expiry", FLAG_DURATION, NULL,                                                        \
        "Validity period for node certificates " NS_UNITS " (default 2160h0m0s)")
#define FLAG_HEARTBEAT                                                                             \
    OPT("dispatcher-heartbeat", FLAG_DURATION, NULL, "Dispatcher heartbeat period " NS_UNITS " (default 5s)")

static const struct flag swarm_init_flags[] = {
    STR("advertise-addr", 0, NULL, NULL, "Advertised address (format: \"<ip|interface>[:port]\")", NULL),
    STR("availability", 0, NULL, "active", "Availability of the node (\"active\", \"pause\", \"drain\")", AVAILABILITY),
    FLAG_CERT_EXPIRY,
    OPT("data-path-port", FLAG_U64, NULL, "Port number to use for data path traffic (1024 - 49151; default 4789)"),
    LIST("default-addr-pool", 0, NULL, "Default address pool in CIDR format", NULL),
    OPT("default-addr-pool-mask-length", FLAG_U64, NULL, "Default address pool subnet mask length (default 20)"),
    FLAG_HEARTBEAT,
    BOOL("force-new-cluster", 0, "Force create a new cluster from current state"),
    STR("listen-addr", 0, "node-addr", "0.0.0.0:2377", "Listen address (format: \"<ip|interface>[:port]\")", NULL),
    FLAGS_CLUSTER,
    END,
};

static const struct flag swarm_join_flags[] = {
    STR("advertise-addr", 0, NULL, NULL, "Advertised address (format: \"<ip|interface>[:port]\")", NULL),
    STR("availability", 0, NULL, "active", "Availability of the node (\"active\", \"pause\", \"drain\")", AVAILABILITY),
    STR("listen-addr", 0, "node-addr", "0.0.0.0:2377", "Listen address (format: \"<ip|interface>[:port]\")", NULL),
    STR("token", 0, NULL, NULL, "Token for entry into the swarm", NULL),
    END,
};

static const struct flag join_token_flags[] = {
    BOOL("quiet", 'q', "Only display token"),
    BOOL("rotate", 0, "Rotate join token"),
    END,
};

static const struct flag swarm_leave_flags[] = {
    BOOL("force", 'f', "Force this node to leave the swarm, ignoring warnings"),
    END,
};

static const struct flag swarm_update_flags[] = {
    FLAG_CERT_EXPIRY,
    FLAG_HEARTBEAT,
    STR("log-driver", 0, NULL, NULL, "Default logging driver for tasks of services that name none", NULL),
    LIST("log-opt", 0, NULL, "Options of the default logging driver", NULL),
    FLAGS_CLUSTER,
    END,
};

static const struct flag format_flags[] = {
    STR("format", 'f', NULL, NULL, "Format output using a custom template: 'json' or a Go template", "json"),
    END,
};

#define OBJECTS "Objects are named by ID, by name or by the beginning of an ID that no other has."
#define WAITS                                                                                      \
    "Unless --detach is given, the command shows the progress and ends when the service has "      \
    "converged and stayed so for its monitor period. It exits with 1 when the update is paused "   \
    "or --wait-timeout has passed. Ctrl-C leaves the operation running in the background."

static const struct cmd cmds[] = {
    { "swarm init", NULL, 0, 0, CMD_MANAGER, CMD_MIXED, swarm_init, swarm_init_flags, "",
      "Initialize a swarm",
      "Makes the managerd of this host the first manager of a new cluster and prints the command by "
      "which workers join. Only through the local socket.", NULL, false },
    { "swarm join", NULL, 1, CMD_ARGS_ANY, CMD_MANAGER, CMD_MIXED, swarm_join, swarm_join_flags,
      "HOST:PORT [HOST:PORT...]", "Join a swarm as a node and/or manager",
      "The token decides whether the node becomes a worker or a manager. Only through the local "
      "socket of a managerd; a host with nothing but agentd joins with agentd --join.", NULL, false },
    { "swarm join-token", NULL, 1, 1, CMD_MANAGER, CMD_MIXED, swarm_join_token, join_token_flags,
      "(worker|manager)", "Manage join tokens", NULL, "role", false },
    { "swarm leave", NULL, 0, 0, CMD_MANAGER, CMD_MIXED, swarm_leave, swarm_leave_flags, "",
      "Leave the swarm", NULL, NULL, false },
    { "swarm update", NULL, 0, 0, CMD_MANAGER, CMD_MIXED, swarm_update, swarm_update_flags, "",
      "Update the swarm", NULL, NULL, false },
    { "swarm ca", NULL, 0, 0, CMD_MANAGER, CMD_MIXED, swarm_ca, no_flags, "",
      "Display the root CA", "Prints the root certificate of the cluster in PEM.", NULL, false },

    { "cluster backup", NULL, 1, 1, CMD_MANAGER, CMD_MIXED, cluster_backup, cluster_backup_flags,
      "FILE", "Save the cluster's state to a file (it holds the root CA's key)",
      "The file holds every object of the cluster as it was at one moment, with secrets, join tokens "
      "and the root CA's private key: whoever has it can act as any node. It is made readable by its "
      "owner only, and replaces an older one only when it is complete. managerd restore FILE makes a "
      "new first manager from it.", "file", false },

    { "network create", NULL, 1, 1, CMD_MANAGER, CMD_MIXED, network_create, network_create_flags,
      "NETWORK", "Create a network",
      "Overlay networks connect the tasks of services on all hosts. Without --subnet one is taken from "
      "the cluster's address pools. With --opt encrypted, what leaves a host is encrypted. Networks of "
      "the drivers bridge, macvlan and ipvlan are made by the engine of each host that needs them; "
      "--config-only holds settings that --config-from copies.", NULL, false },
    { "network ls", "network list", 0, 0, CMD_MANAGER, CMD_MIXED, network_ls, network_ls_flags, "",
      "List networks", "Filters: dangling, driver, id, label, name, scope, type (custom, builtin).",
      NULL, false },
    { "network inspect", NULL, 1, CMD_ARGS_ANY, CMD_MANAGER, CMD_MIXED, network_inspect,
      network_inspect_flags, "NETWORK [NETWORK...]",
      "Display detailed information on one or more networks", OBJECTS, "network", false },
    { "network rm", "network remove", 1, CMD_ARGS_ANY, CMD_MANAGER, CMD_MIXED, network_rm,
      network_rm_flags, "NETWORK [NETWORK...]", "Remove one or more networks", NULL, "network", false },
    { "network prune", NULL, 0, 0, CMD_MANAGER, CMD_MIXED, network_prune, network_prune_flags, "",
      "Remove all unused networks", "Networks that no service is attached to. Filter: label.", NULL,
      false },
    { "network check", "net check", 0, 1, CMD_MANAGER, CMD_MIXED, network_check, no_flags, "[NETWORK]",
      "Compare every node's kernel with what it should have",
      "Every node compares its routes, neighbours, forwarding entries, balancers, names and host tables "
      "with the plan, and says what is missing or unexpected. Nothing is changed by the check; nodes "
      "repair differences by themselves within seconds. Exits with 1 when there are differences or a "
      "node did not answer.", "network", false },

    { "node ls", "node list", 0, 0, CMD_MANAGER, CMD_MIXED, node_ls, ls_flags, "",
      "List nodes in the swarm",
      "Filters: id, label (engine label), node.label, membership, name, role.", NULL, false },
    { "node ps", NULL, 0, CMD_ARGS_ANY, CMD_MANAGER, CMD_MIXED, node_ps, ps_flags, "[NODE...]",
      "List tasks running on one or more nodes, defaults to current node",
      "Filters: id, name, desired-state.", "node", false },
    { "node inspect", NULL, 1, CMD_ARGS_ANY, CMD_MANAGER, CMD_MIXED, node_inspect, inspect_flags,
      "self|NODE [NODE...]", "Display detailed information on one or more nodes", OBJECTS, "node", false },
    { "node update", NULL, 1, 1, CMD_MANAGER, CMD_MIXED, node_update, node_update_flags, "NODE",
      "Update a node", OBJECTS, "node", false },
    { "node promote", NULL, 1, CMD_ARGS_ANY, CMD_MANAGER, CMD_MIXED, node_promote, no_flags,
      "NODE [NODE...]", "Promote one or more nodes to manager in the swarm",
      "The node gets a manager's certificate; an installed managerd notices and joins the managers.",
      "node", false },
    { "node demote", NULL, 1, CMD_ARGS_ANY, CMD_MANAGER, CMD_MIXED, node_demote, no_flags,
      "NODE [NODE...]", "Demote one or more nodes from manager in the swarm", NULL, "node", false },
    { "node rm", "node remove", 1, CMD_ARGS_ANY, CMD_MANAGER, CMD_MIXED, node_rm, force_flags,
      "NODE [NODE...]", "Remove one or more nodes from the swarm", NULL, "node", false },

    { "service create", NULL, 1, CMD_ARGS_ANY, CMD_MANAGER, CMD_ARGS_LAST, service_create,
      service_create_flags, "IMAGE [COMMAND] [ARG...]", "Create a new service", WAITS, NULL, false },
    { "service ls", "service list", 0, 0, CMD_MANAGER, CMD_MIXED, service_ls, ls_flags, "",
      "List services", "Filters: id, label, mode, name.", NULL, false },
    { "service ps", NULL, 1, CMD_ARGS_ANY, CMD_MANAGER, CMD_MIXED, service_ps, ps_flags,
      "SERVICE [SERVICE...]", "List the tasks of one or more services",
      "Filters: id, name, node, desired-state.", "service", false },
    { "service inspect", NULL, 1, CMD_ARGS_ANY, CMD_MANAGER, CMD_MIXED, service_inspect, inspect_flags,
      "SERVICE [SERVICE...]", "Display detailed information on one or more services", OBJECTS,
      "service", false },
    { "service update", NULL, 1, 1, CMD_MANAGER, CMD_MIXED, service_update, service_update_flags,
      "SERVICE", "Update a service", WAITS, "service", false },
    { "service rollback", NULL, 1, 1, CMD_MANAGER, CMD_MIXED, service_rollback, rollback_flags,
      "SERVICE", "Revert changes to a service's configuration", WAITS, "service", false },
    { "service scale", NULL, 1, CMD_ARGS_ANY, CMD_MANAGER, CMD_MIXED, service_scale, progress_flags,
      "SERVICE=REPLICAS [SERVICE=REPLICAS...]", "Scale one or multiple replicated services", WAITS,
      "service", false },
    { "service rm", "service remove", 1, CMD_ARGS_ANY, CMD_MANAGER, CMD_MIXED, service_rm, no_flags,
      "SERVICE [SERVICE...]", "Remove one or more services", NULL, "service", false },
    { "service logs", NULL, 1, 1, CMD_MANAGER, CMD_MIXED, service_logs, logs_flags, "SERVICE|TASK",
      "Fetch the logs of a service or task", NULL, "service", false },

    { "task inspect", NULL, 1, CMD_ARGS_ANY, CMD_MANAGER, CMD_MIXED, task_inspect, task_inspect_flags,
      "TASK [TASK...]", "Display detailed information on one or more tasks", OBJECTS, "task", false },

    { "info", NULL, 0, 0, CMD_MANAGER, CMD_MIXED, system_info, format_flags, "",
      "Display cluster-wide information",
      "Answered by the manager of this host even when the cluster has no leader.", NULL, false },
    { "version", NULL, 0, 0, CMD_NOTHING, CMD_MIXED, system_version, format_flags, "",
      "Show the version information", NULL, NULL, false },
    { "completion", NULL, 1, 1, CMD_NOTHING, CMD_MIXED, completion_print, no_flags,
      "(bash|zsh|fish)", "Print the completion script for a shell", NULL, "shell", false },
    { "generate-man", NULL, 1, 1, CMD_NOTHING, CMD_MIXED, man_generate, no_flags, "DIR",
      "Write the man pages of every command to a directory", NULL, "dir", true },
    { 0 },
};

static const struct {
    const char *word, *summary;
} groups[] = {
    { "cluster", "Manage the cluster's state" },
    { "network", "Manage networks" },
    { "node", "Manage Swarm nodes" },
    { "service", "Manage Swarm services" },
    { "swarm", "Manage Swarm" },
    { "task", "Manage Swarm tasks" },
};
/* clang-format on */

const struct cmd *cmd_table(void)
{
    return cmds;
}

const struct flag *cmd_global_flags(void)
{
    return global_flags;
}

const char *cmd_group_summary(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        if (strcmp(groups[i].word, word) == 0)
            return groups[i].summary;
    }
    return NULL;
}
