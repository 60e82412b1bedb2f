package org.classkinfy.demo

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
import android.content.res.Configuration
import android.media.Image
import android.os.Bundle
import android.view.TextureView
import android.view.View
import android.widget.Button
import android.widget.TextView
import org.classkinfy.bundle.BundleConstants
import org.classkinfy.core.ClasskinfyException

/** The camera's preview with hints of quality; leads to an answer by shutter or gallery. */
internal class MainActivity : Activity(), Camera.Events {
    private val analyst by lazy { (application as DemoApplication).analyst }
    private val words by lazy { Words(resources) }
    private val hint by lazy { find<TextView>(R.id.hint) }
    private val shutter by lazy { find<Button>(R.id.shutter) }
    private val steady = SteadyHint()
    private var camera: Camera? = null
    private var visible = false
    private var asked = false

    @Volatile
    private var ready: Analyst.State.Ready? = null

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.main)
        find<TextView>(R.id.camera_disclaimer).text = BundleConstants.DISCLAIMER
        shutter.setOnClickListener {
            shutter.isEnabled = false
            camera?.shoot()
        }
        find<View>(R.id.gallery).setOnClickListener { choose() }
        find<View>(R.id.about).setOnClickListener {
            ready?.let { AboutDialog(this, analyst, it).show() }
        }
    }

    override fun onResume() {
        super.onResume()
        visible = true
        analyst.watcher = ::show
        show(analyst.state)
    }

    override fun onPause() {
        visible = false
        analyst.watcher = null
        stopCamera()
        super.onPause()
    }

    override fun onConfigurationChanged(changed: Configuration) {
        super.onConfigurationChanged(changed)
        stopCamera()
        startCamera()
    }

    override fun onRequestPermissionsResult(request: Int, permissions: Array<String>, granted: IntArray) {
        // Resuming starts the camera, once the dialogue is gone.
        if (granted.firstOrNull() != PackageManager.PERMISSION_GRANTED) {
            hint.setText(R.string.camera_denied)
        }
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        val photo = data?.data ?: return
        if (request == CHOOSE && result == RESULT_OK) startActivity(ResultActivity.of(this, photo))
    }

    override fun onFrame(image: Image, rotation: Int) {
        val ready = ready ?: return
        val text = try {
            words.hint(steady.after(analyst.inspect(image, rotation, ready).reasons.firstOrNull()))
        } catch (error: ClasskinfyException) {
            error.message!!
        }
        // The same text again would be read out again.
        runOnUiThread { if (camera != null && hint.text.toString() != text) hint.text = text }
    }

    override fun onPhoto(jpeg: ByteArray) = runOnUiThread {
        if (visible) {
            analyst.photo = jpeg
            startActivity(ResultActivity.ofShot(this))
        }
    }

    override fun onReady() = runOnUiThread { shutter.isEnabled = camera != null }

    override fun onCameraFailure(reason: String) = runOnUiThread {
        if (visible) {
            shutter.isEnabled = false
            hint.text = getString(R.string.camera_failed, reason)
        }
    }

    private fun show(state: Analyst.State) {
        ready = state as? Analyst.State.Ready
        find<View>(R.id.status_panel).visibility = if (ready == null) View.VISIBLE else View.GONE
        find<View>(R.id.status_progress).visibility =
            if (state is Analyst.State.Unusable) View.GONE else View.VISIBLE
        find<TextView>(R.id.status).text = when (state) {
            Analyst.State.Opening -> getString(R.string.opening)
            Analyst.State.Testing -> getString(R.string.testing)
            is Analyst.State.Unusable -> "${getString(R.string.cannot_open)}\n\n${state.reason}"
            is Analyst.State.Ready -> ""
        }
        if (ready == null) stopCamera() else startCamera()
    }

    private fun startCamera() {
        val ready = ready ?: return
        if (!visible || camera != null) return
        if (checkSelfPermission(Manifest.permission.CAMERA) != PackageManager.PERMISSION_GRANTED) {
            if (!asked) requestPermissions(arrayOf(Manifest.permission.CAMERA), 0)
            asked = true // once a visit: who said no is not asked at every return
            return
        }
        val preview = find<TextureView>(R.id.preview)
        val guide = find<GuideView>(R.id.guide)
        @Suppress("DEPRECATION") // its successor came with API 30
        val display = windowManager.defaultDisplay.rotation * 90
        camera = Camera(this, preview, guide, ready.bundle.manifest.capture, this).apply { start(display) }
    }

    private fun stopCamera() {
        shutter.isEnabled = false
        camera?.stop()
        camera = null
    }

    private fun choose() {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("image/*")
        startActivityForResult(intent, CHOOSE)
    }

    private companion object {
        const val CHOOSE = 1
    }
}
