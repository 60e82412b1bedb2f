package org.classkinfy.jvm

import java.io.File
import java.io.IOException
import kotlin.system.exitProcess
import org.classkinfy.core.ClasskinfyException
import org.classkinfy.core.ClasskinfyPipeline
import org.classkinfy.core.Form
import org.classkinfy.core.Options
import org.classkinfy.core.Services
import org.json.JSONObject

private const val USAGE = """usage: replay BUNDLE RUNTIME PRECISION FORM [KEY ...]
       answer BUNDLE RUNTIME PRECISION FORM FOLDER [KEY ...]
RUNTIME is onnxruntime or litert, FORM staged or fused, KEY a trusted public key (base64)."""

/**
 * A bundle on a desktop JVM, through the code that an app runs.
 *
 * `replay` prints the self-test's report, `answer` a line of JSON for each file of a folder, in order of
 * name. Exit code 0: done, or passed; 1: the self-test failed; 2: an error, told on the error stream.
 */
fun main(arguments: Array<String>) {
    val failure = try {
        exitProcess(if (Replay(arguments.toList()).run()) 0 else 1)
    } catch (error: ClasskinfyException) {
        "${error.javaClass.simpleName}: ${error.message}"
    } catch (error: IOException) {
        "${error.javaClass.simpleName}: ${error.message}"
    } catch (error: IllegalArgumentException) {
        "${error.message}\n$USAGE"
    }
    System.err.println(failure)
    exitProcess(2)
}

private class Replay(private val arguments: List<String>) {
    private val verb = argument(0, "verb")
    private val bundle = File(argument(1, "BUNDLE"))
    private val runtime = argument(2, "RUNTIME")
    private val isAnswer = verb == "answer"
    private val options = Options(
        runtime = runtime,
        precision = argument(3, "PRECISION"),
        form = argument(4, "FORM").let { label ->
            requireNotNull(Form.values().firstOrNull { it.label == label }) { "there is no form $label" }
        },
        trustedKeys = arguments.drop(if (isAnswer) 6 else 5),
    )

    /** Whether all is well. */
    fun run(): Boolean = ClasskinfyPipeline.open(bundle, options).use { pipeline ->
        when (verb) {
            "replay" -> replay(pipeline)
            "answer" -> answer(pipeline, File(argument(5, "FOLDER")))
            else -> throw IllegalArgumentException("there is no verb $verb")
        }
    }

    private fun replay(pipeline: ClasskinfyPipeline): Boolean {
        val report = pipeline.selfTest()
        val version = Services.engines().first { it.name == runtime }.version
        println(report.toJson().put("runtime_version", version).put("signer", pipeline.signer.toString()))
        return report.passed
    }

    private fun answer(pipeline: ClasskinfyPipeline, folder: File): Boolean {
        val files = folder.listFiles() ?: throw IOException("$folder is no folder")
        for (file in files.sorted()) {
            println(JSONObject().put("file", file.name).put("answer", pipeline.analyse(file.readBytes()).toJson()))
        }
        return true
    }

    private fun argument(at: Int, name: String): String =
        requireNotNull(arguments.getOrNull(at)) { "$name is missing" }
}
