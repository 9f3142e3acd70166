// Package supervisor runs containers in a pod: programs that have a name and a
// record, a root of their own or the host's, and an end that is remembered.
//
// A container in the foreground (Container.Run) is the calling process's: it has its
// streams, and is killed when it ends. Containers in the background (Container.Start)
// are those of one small process for each pod, the supervisor, which is there as
// long as one of them runs: it writes their logs, restarts them, and notes how they
// end. It is started when it is needed, from a command line that the embedding
// program gives (Options.Command), which has to call Serve.
//
// A pod's containers can be led as the kubelet leads those of a pod (Pod.Lead): in order,
// with probes and hooks, until they have ended for good.
//
// What must hold when a supervisor is killed: its containers run on, and what they
// write waits in their pipes. The next one takes them over: it goes on with logs,
// restarts and probes. It is started by the parent of the last one (package guardian), or,
// if that was killed too, when somebody wants something of a container. What
// cannot be kept: a container with a terminal is hung up (SIGHUP), as the kernel does
// when the other side of a terminal goes; input that was attached ends; and the exit
// status of a container that ended while there was no supervisor is not known, nor,
// before Linux 6.15, that of one that was taken over.
//
// State is in files of the pod's directory, written whole and renamed:
//
//	containers/NAME/record.json      what the container shall be, and how it is
//	containers/NAME/stdout, stderr   pipes from the container
//	containers/NAME/message          its termination message
//	life.json                        how the containers are led, and how far that is
//	supervisor.lock, supervisor.sock
//
// and logs in its state directory, in the format of the CRI:
//
//	logs/NAME.log, NAME.log.1 …
//
// The package needs what package launcher needs. Methods may be called from any
// goroutine and by any number of processes at once.
package supervisor
