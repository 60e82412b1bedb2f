package org.classkinfy.demo

import android.app.Activity
import android.content.Intent
import android.content.pm.ApplicationInfo
import android.os.Bundle
import android.os.Debug
import android.os.Process
import android.os.SystemClock
import android.util.Log
import android.view.View
import android.view.WindowManager
import android.widget.TextView
import java.io.File
import java.io.IOException
import kotlin.concurrent.thread
import org.classkinfy.core.Benchmark
import org.classkinfy.core.LinuxMemory
import org.json.JSONObject

/**
 * One measurement for `classkinfy bench`, in a process that was started for it: it leaves one JSON
 * document, and ends. A debuggable app leaves it where `run-as` reads it, another in its external folder.
 */
internal class BenchmarkActivity : Activity() {
    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        find<View>(R.id.camera_panel).visibility = View.GONE
        find<TextView>(R.id.status).setText(R.string.benchmark_running)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        // Turning the phone does not come here again, and another start is another process.
        if (saved == null) thread(name = "benchmark") { run() }
    }

    private fun run() {
        try {
            val asked = BenchmarkOrder(IntentExtras(intent))
            write(asked.fileName, result(asked))
        } catch (error: IllegalArgumentException) {
            Log.e(TAG, error.message, error) // of an order without a name there is no file to tell it in
        } catch (error: IOException) {
            Log.e(TAG, "the result cannot be written", error)
        }
        runOnUiThread { finishAndRemoveTask() }
    }

    private fun result(asked: BenchmarkOrder): JSONObject {
        val version = Analyst.version(this)
        val order = try {
            asked.order()
        } catch (error: IllegalArgumentException) {
            return JSONObject().put("request", asked.request).put("app", version).put("runtime", "")
                .put("manifest_sha256", "").put("error", error.message)
        }
        val memory = LinuxMemory { Debug.getPss() * KIB }
        val startedMs = SystemClock.elapsedRealtime() - Process.getStartElapsedRealtime()
        return Benchmark(version, memory).measure(order, startedMs.toDouble())
    }

    /** Under another name first, so that no half of it is read. */
    private fun write(name: String, result: JSONObject) {
        val debuggable = applicationInfo.flags and ApplicationInfo.FLAG_DEBUGGABLE != 0
        val folder = (if (debuggable) filesDir else getExternalFilesDir(null)) ?: throw IOException("no storage")
        val part = File(folder, "$name.part")
        part.writeText(result.toString())
        if (!part.renameTo(File(folder, name))) throw IOException("$part cannot be renamed")
    }

    private class IntentExtras(private val intent: Intent) : BenchmarkOrder.Extras {
        override fun text(name: String): String? = intent.getStringExtra(name)

        override fun number(name: String): Int? =
            if (intent.hasExtra(name)) intent.getIntExtra(name, 0) else null
    }

    private companion object {
        const val TAG = "Benchmark"
        const val KIB = 1024L
    }
}
